"""Four pairs of a patch and a token at once: what the searches measure in float64.

One lane of a vector belongs to one pair, so every sum is taken coordinate by coordinate, as the
definition in :mod:`sklearn_patchcert.voronoi.engines.measure` takes it, with the same roundings.
Four of them wait for their additions together.  All arrays are flat and C-contiguous.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from sklearn_patchcert.voronoi.engines.lanes import intrinsic

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_DOUBLES, _FLOATS = ir.VectorType(ir.DoubleType(), 4), ir.VectorType(ir.FloatType(), 4)


def _at(context, builder, kind, array, offset):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _load(builder, kind, pointer):
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)


def _zero(kind):
    return ir.Constant(kind, [0.0] * 4)


def _transposed(builder, rows):
    """Four vectors of the first, second, ... lanes of four vectors."""

    def mixed(a, b, *lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, 4), list(lanes)))

    a, b, c, d = rows
    even = mixed(a, b, 0, 4, 2, 6), mixed(c, d, 0, 4, 2, 6)
    odd = mixed(a, b, 1, 5, 3, 7), mixed(c, d, 1, 5, 3, 7)
    halves = (0, 1, 4, 5), (2, 3, 6, 7)
    return [mixed(*pair, *half) for half in halves for pair in (even, odd)]


@intrinsic
def squares4(typingctx, patches, begin, tokens, whose, which, first, dim, out):
    """Squared distances of the pairs first, ..., first + 3, in float64.

    ``out[k] = sum_j (patches[dim (begin + whose[k]) + j] - tokens[dim which[k] + j]) ** 2``.
    """
    whole = types.int64
    signature = types.void(patches, whole, tokens, whose, which, whole, whole, out)

    def codegen(context, builder, signature, arguments):
        begin, first, dim = arguments[1], arguments[5], arguments[6]
        kinds, double = signature.args, ir.DoubleType()
        wide = kinds[0].dtype == types.float64

        def name(i, k):
            at = _at(context, builder, kinds[i], arguments[i], builder.add(first, _INT64(k)))
            return builder.load(at)

        points, others = [], []
        for k in range(4):
            row = builder.mul(dim, builder.add(begin, name(3, k)))
            points.append(_at(context, builder, kinds[0], arguments[0], row))
            row = builder.mul(dim, name(4, k))
            others.append(_at(context, builder, kinds[2], arguments[2], row))
        total = cgutils.alloca_once_value(builder, _zero(_DOUBLES))
        builder.store(_zero(_DOUBLES), total)

        def add(terms):
            builder.store(builder.fadd(builder.load(total), terms), total)

        whole = builder.and_(dim, _INT64(-4))
        with cgutils.for_range_slice(builder, _INT64(0), whole, _INT64(4), _INT64) as (j, _):
            rows = []
            for point, other in zip(points, others, strict=True):
                x = _load(builder, _DOUBLES if wide else _FLOATS, builder.gep(point, [j]))
                x = x if wide else builder.fpext(x, _DOUBLES)
                apart = builder.fsub(x, _load(builder, _DOUBLES, builder.gep(other, [j])))
                rows.append(builder.fmul(apart, apart))
            for terms in _transposed(builder, rows):
                add(terms)
        with cgutils.for_range_slice(builder, whole, dim, _INT64(1), _INT64) as (j, _):
            terms = _zero(_DOUBLES)
            for k, (point, other) in enumerate(zip(points, others, strict=True)):
                x = builder.load(builder.gep(point, [j]))
                x = x if wide else builder.fpext(x, double)
                apart = builder.fsub(x, builder.load(builder.gep(other, [j])))
                terms = builder.insert_element(terms, builder.fmul(apart, apart), _INT32(k))
            add(terms)
        to = _at(context, builder, kinds[7], arguments[7], first)
        builder.store(builder.load(total), builder.bitcast(to, _DOUBLES.as_pointer()), align=8)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def norms4(typingctx, points, first, dim, out):
    """Squared norms ``out[q]`` of points[dim q : dim (q + 1)], first <= q < first + 4, float32.

    `dim` is a multiple of 4; the order of the additions is not that of the coordinates.
    """
    signature = types.void(points, types.int64, types.int64, out)

    def codegen(context, builder, signature, arguments):
        first, dim = arguments[1:3]
        sums, starts = [], []
        for k in range(4):
            row = builder.mul(dim, builder.add(first, _INT64(k)))
            starts.append(_at(context, builder, signature.args[0], arguments[0], row))
            sums.append(cgutils.alloca_once_value(builder, _zero(_FLOATS)))
            builder.store(_zero(_FLOATS), sums[k])
        with cgutils.for_range_slice(builder, _INT64(0), dim, _INT64(4), _INT64) as (j, _):
            for start, total in zip(starts, sums, strict=True):
                x = _load(builder, _FLOATS, builder.gep(start, [j]))
                builder.store(builder.fadd(builder.load(total), builder.fmul(x, x)), total)
        a, b, c, d = _transposed(builder, [builder.load(total) for total in sums])
        found = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        to = _at(context, builder, signature.args[3], arguments[3], first)
        builder.store(found, builder.bitcast(to, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, codegen
