"""Scores of four patches against 64 tokens at once, in vector registers: most of a search's work.

Sums of products of float32 or of pairs of 16-bit integers.  As in
:mod:`sklearn_patchcert.voronoi.engines.lanes`, arrays are flat and C-contiguous.
"""

from __future__ import annotations

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from sklearn_patchcert.voronoi.engines.lanes import (
    _BITS,
    _INT32,
    _INT64,
    _VECTOR,
    BLOCK,
    LANES,
    _all,
    _at,
    _call,
    _constant,
    _load,
    _multiply_add,
    _smallest,
    _store,
    intrinsic,
)

# What numba compiles for, which NUMBA_CPU_NAME and others may set below what the machine has.  It
# is part of the key of numba's cache, so that no code with other instructions comes from there.
_FEATURES = set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
# Vectors of tokens held at once beside four points, as many as there are registers for.
_TILE = 4 if "+avx512f" in _FEATURES else 1
INTEGERS = {"+avx512f", "+avx512vnni"} <= _FEATURES  # sums of products of 16 bits, which are faster


@intrinsic
def scaled16(typingctx, values, factor, out, offset):
    """out[offset + lane] = values[offset + lane] * factor, float32 or rounded to 16 bits."""
    signature = types.void(values, types.float32, out, types.int64)
    integers = out.dtype == types.int16

    def codegen(context, builder, signature, arguments):
        v = _at(context, builder, signature.args[0], arguments[0], arguments[3])
        to = _at(context, builder, signature.args[2], arguments[2], arguments[3])
        number = builder.fmul(_load(builder, v), _all(builder, arguments[1]))
        if not integers:
            _store(builder, number, to)
            return context.get_dummy_value()
        number = builder.fadd(number, _constant(32768.5))  # positive, where cutting rounds down
        for relation, limit in (("<", 65535.0), (">", 1.0)):  # NaN becomes a number, too
            limit = _constant(limit)
            within = builder.fcmp_ordered(relation, number, limit)
            number = builder.select(within, number, limit)
        whole = builder.sub(builder.fptosi(number, _BITS), ir.Constant(_BITS, [32768] * LANES))
        halves = ir.VectorType(ir.IntType(16), LANES)
        to = builder.bitcast(to, halves.as_pointer())
        builder.store(builder.trunc(whole, halves), to, align=2)
        return context.get_dummy_value()

    return signature, codegen


def _load_pairs(builder, pointer, every):
    """16 pairs of 16-bit integers, from a pointer on or, if not `every`, the first of them."""
    if every:
        return builder.load(builder.bitcast(pointer, _BITS.as_pointer()), align=2)
    pair = builder.load(builder.bitcast(pointer, _INT32.as_pointer()), align=2)
    one = builder.insert_element(ir.Constant(_BITS, ir.Undefined), pair, _INT32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_BITS, [0] * LANES))


def _add_pairs(builder, a, b, total):
    """total + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1] of 16-bit integers a and b."""
    if INTEGERS:
        return _call(builder, "llvm.x86.avx512.vpdpwssd.512", _BITS, [total, a, b])
    by16 = ir.Constant(_BITS, [16] * LANES)
    low = [builder.ashr(builder.shl(number, by16), by16) for number in (a, b)]
    high = [builder.ashr(number, by16) for number in (a, b)]
    return builder.add(total, builder.add(builder.mul(*low), builder.mul(*high)))


@intrinsic
def scores4(typingctx, points, steps, tokens, half, dim, blocks, first, out, lows):
    """Scores half - x.t of four points against blocks of 64 tokens, in registers.

    ``out[64 blocks p + 64 g + lane] = half[64 g + lane] +
    steps[p] sum_j points[dim p + j] tokens[64 (dim g + j) + lane]``, the tokens negated, for the
    points p from `first` on; ``lows[16 blocks p + 16 g + lane]`` is the least of the four that are
    16 apart.  Points and tokens are float32, with steps of 1, or 16-bit integers, of which the
    tokens have two coordinates next to each other: ``tokens[64 (dim g + j) + 2 lane + i]``, for
    even j.
    """
    whole = types.int64
    signature = types.void(points, steps, tokens, half, whole, whole, whole, out, lows)
    integers = tokens.dtype == types.int16

    def codegen(context, builder, signature, arguments):
        dim, blocks, start, four = arguments[4], arguments[5], arguments[6], range(4)
        row = builder.mul(blocks, _INT64(BLOCK))
        low_row = builder.mul(blocks, _INT64(LANES))
        x, scale, t, h, out, lows = (
            _at(context, builder, signature.args[i], arguments[i], offset)
            for i, offset in (
                (0, builder.mul(start, dim)),
                (1, start),
                (2, _INT64(0)),
                (3, _INT64(0)),
                (7, builder.mul(start, row)),
                (8, builder.mul(start, low_row)),
            )
        )
        zero = _constant(0.0)
        nothing = ir.Constant(_BITS, [0] * LANES) if integers else zero
        at_once = 2 if integers else 1
        sums = [[cgutils.alloca_once_value(builder, nothing) for _ in range(_TILE)] for _ in four]
        least = [cgutils.alloca_once_value(builder, zero) for _ in four]
        scale = [_all(builder, builder.load(builder.gep(scale, [_INT64(p)]))) for p in four]
        with cgutils.for_range(builder, blocks, intp=_INT64) as g:
            first = builder.mul(g.index, _INT64(BLOCK))
            for i in range(0, 4, _TILE):
                tile = [_INT64(LANES * (i + k)) for k in range(_TILE)]
                begin = [_load(builder, builder.gep(h, [builder.add(first, k)])) for k in tile]
                for p in four:
                    for k in range(_TILE):
                        builder.store(nothing if integers else begin[k], sums[p][k])
                step = _INT64(at_once)
                with cgutils.for_range_slice(builder, _INT64(0), dim, step, _INT64) as (j, _):
                    at = builder.mul(builder.add(builder.mul(g.index, dim), j), _INT64(BLOCK))
                    places = (builder.gep(t, [builder.add(at, builder.mul(k, step))]) for k in tile)
                    load = functools.partial(_load_pairs, every=True) if integers else _load
                    tokens = [load(builder, place) for place in places]
                    for p in four:
                        place = builder.gep(x, [builder.add(j, builder.mul(dim, _INT64(p)))])
                        if integers:
                            value = _load_pairs(builder, place, every=False)
                        else:
                            value = _all(builder, builder.load(place))
                        for k in range(_TILE):
                            total = builder.load(sums[p][k])
                            add = _add_pairs if integers else _multiply_add
                            builder.store(add(builder, value, tokens[k], total), sums[p][k])
                for p in four:
                    found = [builder.load(total) for total in sums[p]]
                    if integers:
                        found = [
                            _multiply_add(builder, builder.sitofp(some, _VECTOR), scale[p], other)
                            for some, other in zip(found, begin, strict=True)
                        ]
                    at = builder.add(first, builder.mul(row, _INT64(p)))
                    for vector, lane in zip(found, tile, strict=True):
                        _store(builder, vector, builder.gep(out, [builder.add(at, lane)]))
                    found += [builder.load(least[p])] if i else []
                    builder.store(_smallest(builder, found), least[p])
            for p in four:
                to = builder.add(
                    builder.mul(g.index, _INT64(LANES)), builder.mul(low_row, _INT64(p))
                )
                _store(builder, builder.load(least[p]), builder.gep(lows, [to]))
        return context.get_dummy_value()

    return signature, codegen
