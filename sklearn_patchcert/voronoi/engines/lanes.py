"""Sixteen float32 numbers at once: what the searches do most, held in vector registers.

Compiled from plain loops these kernels go through memory at every step and take several times as
long.  Written with LLVM's own vectors, which every processor has in hardware or by splitting, they
are portable.  All arrays are flat, float32 and C-contiguous; offsets and sizes count numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

LANES = 16
BLOCK = 64  # what the kernels without 16 in their name step by

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _BITS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT32, LANES)
_FAR = 3e38
intrinsic: Any = _intrinsic  # whose first argument, the typing context, no caller gives


def _at(context, builder, kind, array, offset):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _load(builder, pointer):
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder, vector, pointer):
    builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _all(builder, number):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, _INT32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_BITS, [0] * LANES))


def _constant(number):
    return ir.Constant(_VECTOR, [number] * LANES)


def _call(builder, name, result, arguments, **options):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, name), arguments, **options
    )


def _multiply_add(builder, a, b, c):
    return _call(builder, "llvm.fmuladd.v16f32", _VECTOR, [a, b, c])


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _least(builder, vector):
    return _call(builder, "llvm.vector.reduce.fmin.v16f32", _FLOAT, [vector], fastmath=("nnan",))


def _sum(builder, n, term, parts=4):
    """Sum of term(j) = (a, b), multiplied, over j < n, a multiple of `parts` running sums."""
    sums = [cgutils.alloca_once_value(builder, _constant(0.0)) for _ in range(parts)]
    for part in sums:
        builder.store(_constant(0.0), part)
    with cgutils.for_range_slice(builder, _INT64(0), n, _INT64(parts), _INT64) as (j, _):
        for i, part in enumerate(sums):
            a, b = term(builder.add(j, _INT64(i)))
            builder.store(_multiply_add(builder, a, b, builder.load(part)), part)
    vectors = [builder.load(part) for part in sums]
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [builder.fadd(a, b) for a, b in pairs]
    return vectors[0]


@intrinsic
def distances16(typingctx, point, tokens, offset, dim, out, out_offset):
    """Squared distances of a point to 16 tokens, tokens[offset + 16 j + lane]; the least of them.

    `dim` is a multiple of 4.
    """
    signature = types.float32(point, tokens, types.int64, types.int64, out, types.int64)

    def codegen(context, builder, signature, arguments):
        x = _at(context, builder, signature.args[0], arguments[0], _INT64(0))
        t = _at(context, builder, signature.args[1], arguments[1], arguments[2])

        def term(j):
            token = _load(builder, builder.gep(t, [builder.mul(j, _INT64(LANES))]))
            coordinate = _all(builder, builder.load(builder.gep(x, [j])))
            difference = builder.fsub(coordinate, token)
            return difference, difference

        found = _sum(builder, arguments[3], term)
        _store(builder, found, _at(context, builder, signature.args[4], arguments[4], arguments[5]))
        return _least(builder, found)

    return signature, codegen


@intrinsic
def boxes16(typingctx, point, low, high, offset, out, out_offset):
    """Squared distances of a point with 4 coordinates to 16 boxes; the least of them."""
    signature = types.float32(point, low, high, types.int64, out, types.int64)

    def codegen(context, builder, signature, arguments):
        x = _at(context, builder, signature.args[0], arguments[0], _INT64(0))
        lo = _at(context, builder, signature.args[1], arguments[1], arguments[3])
        hi = _at(context, builder, signature.args[2], arguments[2], arguments[3])
        total = zero = _constant(0.0)
        for j in range(4):
            at = [_INT64(LANES * j)]
            coordinate = _all(builder, builder.load(builder.gep(x, [_INT64(j)])))
            below = builder.fsub(_load(builder, builder.gep(lo, at)), coordinate)
            above = builder.fsub(coordinate, _load(builder, builder.gep(hi, at)))
            outside = builder.select(builder.fcmp_ordered(">", below, above), below, above)
            outside = builder.select(builder.fcmp_ordered(">", outside, zero), outside, zero)
            total = _multiply_add(builder, outside, outside, total)
        _store(builder, total, _at(context, builder, signature.args[4], arguments[4], arguments[5]))
        return _least(builder, total)

    return signature, codegen


@intrinsic
def apart16(typingctx, rows, first, second, n):
    """Squared distance of rows[first : first + n] to rows[second : second + n]; 16 divides n."""
    signature = types.float32(rows, types.int64, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        a, b = (
            _at(context, builder, signature.args[0], arguments[0], place)
            for place in arguments[1:3]
        )
        total = cgutils.alloca_once_value(builder, _constant(0.0))
        builder.store(_constant(0.0), total)
        step = _INT64(LANES)
        with cgutils.for_range_slice(builder, _INT64(0), arguments[3], step, _INT64) as (j, _):
            pair = (_load(builder, builder.gep(row, [j])) for row in (a, b))
            apart = builder.fsub(*pair)
            builder.store(_multiply_add(builder, apart, apart, builder.load(total)), total)
        zero = ir.Constant(_FLOAT, 0.0)
        name, numbers = "llvm.vector.reduce.fadd.v16f32", [zero, builder.load(total)]
        return _call(builder, name, _FLOAT, numbers, fastmath=("reassoc",))

    return signature, codegen


@intrinsic
def rotate16(typingctx, point, matrix, offset, stride, dim, out):
    """out[offset + lane] = sum over j < dim of x[j] m[stride j + offset + lane]; 4 divides dim."""
    signature = types.void(point, matrix, types.int64, types.int64, types.int64, out)

    def codegen(context, builder, signature, arguments):
        x = _at(context, builder, signature.args[0], arguments[0], _INT64(0))
        m = _at(context, builder, signature.args[1], arguments[1], arguments[2])

        def term(j):
            row = _load(builder, builder.gep(m, [builder.mul(j, arguments[3])]))
            return _all(builder, builder.load(builder.gep(x, [j]))), row

        found = _sum(builder, arguments[4], term)
        _store(builder, found, _at(context, builder, signature.args[5], arguments[5], arguments[2]))
        return context.get_dummy_value()

    return signature, codegen


def _smallest(builder, vectors):
    vectors = list(vectors)
    while len(vectors) > 1:
        last = vectors[len(vectors) // 2 * 2 :]
        pairs = zip(vectors[::2], vectors[1::2], strict=False)
        vectors = [_smaller(builder, a, b) for a, b in pairs] + last
    return vectors[0]


def _mask(builder, conditions):
    """Bits of several vectors of truths, as one 64-bit integer."""
    mask = _INT64(0)
    for i, condition in enumerate(conditions):
        bits = builder.zext(builder.bitcast(condition, ir.IntType(LANES)), _INT64)
        mask = builder.or_(mask, builder.shl(bits, _INT64(LANES * i)))
    return mask


@intrinsic
def least(typingctx, values, offset, n):
    """Least of values[offset : offset + n], where n is a multiple of 16 and nothing is NaN."""
    signature = types.float32(values, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        lows = [cgutils.alloca_once_value(builder, _constant(_FAR)) for _ in range(4)]
        for low in lows:
            builder.store(_constant(_FAR), low)
        many = builder.and_(arguments[2], _INT64(-BLOCK))
        for begin, end, chains in ((_INT64(0), many, lows), (many, arguments[2], lows[:1])):
            step = _INT64(LANES * len(chains))  # side by side, each waiting only for itself
            with cgutils.for_range_slice(builder, begin, end, step, _INT64) as (k, _):
                for i, low in enumerate(chains):
                    at = builder.add(k, _INT64(LANES * i))
                    value = _load(builder, builder.gep(v, [at]))
                    builder.store(_smaller(builder, value, builder.load(low)), low)
        return _least(builder, _smallest(builder, [builder.load(low) for low in lows]))

    return signature, codegen


def _walls(builder, values, inverse, own, at):
    """The four vectors of (values - own) * inverse from `at` on."""
    halves, by16 = ir.VectorType(ir.IntType(16), LANES), ir.Constant(_BITS, [16] * LANES)
    for i in range(4):
        k = [builder.add(at, _INT64(LANES * i))]
        gap = builder.fsub(_load(builder, builder.gep(values, k)), own)
        place = builder.bitcast(builder.gep(inverse, k), halves.as_pointer())
        upper = builder.zext(builder.load(place, align=2), _BITS)
        yield builder.fmul(gap, builder.bitcast(builder.shl(upper, by16), _VECTOR))


@intrinsic
def least_wall(typingctx, values, offset, inverse, inverse_offset, n, own, lows, lows_offset):
    """Least of (values[offset + k] - own) * inverse[inverse_offset + k] over k < n.

    ``lows[lows_offset + 16 g + lane]`` gets the least of the four of block g that are 16 apart.
    The inverse is given by the upper 16 bits of float32, which more of a cache holds.
    """
    whole, number = types.int64, types.float32
    signature = number(values, whole, inverse, whole, whole, number, lows, whole)

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        w = _at(context, builder, signature.args[2], arguments[2], arguments[3])
        lows = _at(context, builder, signature.args[6], arguments[6], arguments[7])
        own = _all(builder, arguments[5])
        low = cgutils.alloca_once_value(builder, _constant(_FAR))
        builder.store(_constant(_FAR), low)
        step = _INT64(BLOCK)
        with cgutils.for_range_slice(builder, _INT64(0), arguments[4], step, _INT64) as (k, _):
            found = _smallest(builder, _walls(builder, v, w, own, k))
            _store(builder, found, builder.gep(lows, [builder.sdiv(k, _INT64(BLOCK // LANES))]))
            builder.store(_smaller(builder, found, builder.load(low)), low)
        return _least(builder, builder.load(low))

    return signature, codegen


@intrinsic
def below16(typingctx, values, offset, bound):
    """Bit mask of the 16 lanes with values[offset + lane] <= bound."""
    signature = types.uint64(values, types.int64, types.float32)

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        bound = _all(builder, arguments[2])
        return _mask(builder, [builder.fcmp_ordered("<=", _load(builder, v), bound)])

    return signature, codegen


@intrinsic
def below(typingctx, values, offset, bound):
    """Bit mask of the 64 lanes with values[offset + lane] <= bound."""
    signature = types.uint64(values, types.int64, types.float32)

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        bound = _all(builder, arguments[2])
        vectors = (_load(builder, builder.gep(v, [_INT64(LANES * i)])) for i in range(4))
        return _mask(builder, [builder.fcmp_ordered("<=", part, bound) for part in vectors])

    return signature, codegen


@intrinsic
def blocks_below(typingctx, lows, offset, n, bound):
    """Bit mask of the n <= 64 vectors from lows[offset] on of which any lane is <= bound."""
    signature = types.uint64(lows, types.int64, types.int64, types.float32)

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        bound = _all(builder, arguments[3])
        mask = cgutils.alloca_once_value(builder, _INT64(0))
        builder.store(_INT64(0), mask)
        with cgutils.for_range(builder, arguments[2], intp=_INT64) as g:
            vector = _load(builder, builder.gep(v, [builder.mul(g.index, _INT64(LANES))]))
            lanes = _mask(builder, [builder.fcmp_ordered("<=", vector, bound)])
            some = builder.zext(builder.icmp_unsigned("!=", lanes, _INT64(0)), _INT64)
            builder.store(builder.or_(builder.load(mask), builder.shl(some, g.index)), mask)
        return builder.load(mask)

    return signature, codegen


@intrinsic
def walls_below(typingctx, values, offset, inverse, inverse_offset, own, bound):
    """Bit mask of the 64 lanes with (values - own) * inverse <= bound."""
    signature = types.uint64(
        values, types.int64, inverse, types.int64, types.float32, types.float32
    )

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[1])
        w = _at(context, builder, signature.args[2], arguments[2], arguments[3])
        own, bound = _all(builder, arguments[4]), _all(builder, arguments[5])
        walls = _walls(builder, v, w, own, _INT64(0))
        conditions = [builder.fcmp_ordered("<=", wall, bound) for wall in walls]
        return _mask(builder, conditions)

    return signature, codegen


@intrinsic
def first_bit(typingctx, mask):
    """Index of the lowest bit that is set."""
    signature = types.int64(types.uint64)

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return signature, codegen
