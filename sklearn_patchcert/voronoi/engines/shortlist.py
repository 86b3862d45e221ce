r"""Which tokens can matter to a patch: float32 matrix products with a proven bound on their error.

*Units.*  The mean of the tokens is 0 and the furthest lies within 1, by a power of two :math:`s`.
All :math:`x`, :math:`b` below are in these units.  A token's score is

.. math:: S_b = |b|^2 / 2 - x \cdot b = (|x - b|^2 - |x|^2) / 2.

*What is computed* is :math:`\hat S_b`, one matrix product in float32, :math:`u = 2^{-24}`.
Patches, tokens and :math:`|b|^2 / 2` are computed in float64 and rounded to float32, which changes
each coordinate by a factor within :math:`1 \pm \mu`, :math:`\mu = u (1 + 2^{-20})`.  A sum of
:math:`d + 1` terms of rounded products, in whatever order and grouping the device adds and with
fused multiplications or without, errs by at most :math:`\gamma_{d+1}` times the sum of their
magnitudes, :math:`\gamma_k = k u / (1 - k u)` (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1).  By Cauchy-Schwarz and :math:`|b| \le 1`,

.. math:: |\hat S_b - S_b| \le \left(\gamma_{d+1} (1 + \mu)^2 + 2 \mu + \mu^2\right) (|x| + 1/2)
          \le 1.002\, (d + 4)\, u\, (|x| + 1/2) < e = 1.1\, (d + 6)\, u\, (|x| + 1/2)

for :math:`d \le 2^{14}`.  The difference of the two, over :math:`2.6\, u\, (|x| + 1/2)`, is more
than all that is left: numbers below :math:`2^{-126}` that a GPU flushes to zero cost at most
:math:`4 (d + 2) (|x| + 1)\, 2^{-126}`; the float32 sum of squares that gives :math:`|x|` errs by
:math:`(d + 2) u |x|`, against the 1.1; thresholds are added up in float32 with an error of
:math:`2 u (|x| + 1/2)`, against :math:`2 e`.  TF32 would break the bound, so it is switched off,
and :func:`check_products` refuses a device whose products are coarser than float32 all the same.
Where :math:`e \ge 1`, far from all tokens, where numbers overflow and where a coordinate is not
finite in float32, the patch is measured against every token in float64.

*What float64 itself rounds.*  The definition of the radius takes
:math:`4 \gamma (D_a + D_b + m^2)` from a numerator, :math:`m` the largest motion of the patch,
:math:`\gamma = (d + 8) 2^{-52}`.  With :math:`D \le (|x| + 1)^2` and the rounding of the squared
distances, all that is less than :math:`R = 4 \gamma (2 (|x| + 1)^2 + m^2)` in a difference of
scores.  Noise of a step before takes at most :math:`2 |a - b| \mathrm{blur} / 2 \le 2
\mathrm{blur}`.

*Own token.*  Whatever has the least computed float64 distance has
:math:`\hat S_b \le \min \hat S + 2 e + R`.

*Nearest wall.*  A wall's distance is :math:`h_b = (S_b - S_a) / |w (a - b)|_*`.  Once one wall has
been measured in float64, at :math:`h_0`, only tokens with

.. math:: \hat S_b \le \theta = \hat S_a + 2 e + R + 2\, \mathrm{blur} + h_0 (1 + 10^{-5}) z

can have a nearer one, by any :math:`z \ge |w (a - b)|_*`.  Tokens that are near each other stand in
blocks of 32.  A table with a row for each own token and a column for each block has the largest
:math:`z` of the block, by which and by the least score almost all blocks are dismissed.  In the
others each token has a :math:`z` of its own, as long as the table of all pairs is not too large.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

BLOCK = 32
HITS = 8  # blocks looked into at once, for each patch of a chunk
MOST = 64  # places of a shortlist; a patch with more is measured against every token
_PAIRS = 2**26  # of places, whose sizes are kept
_FAR = 1e30  # score of an empty place
_MOST_DIMENSIONS = 2**14
_U = 2.0**-24


class Tables(NamedTuple):
    """What the first pass needs of the tokens; places are tokens in the order of the blocks."""

    names: Any  # int64 (places,): token at each place, the number of tokens where it is empty
    centre: Any  # float64 (dim, 1)
    scale: float
    weight_scale: float
    negated: Any  # float32 (dim, places)
    half: Any  # float32 (places,): |b|^2 / 2
    sizes: Any  # float32 (places, blocks): at least |w (a - b)|_* for all b of a block
    each: Any  # float32 (places, blocks, BLOCK): at least |w (a - b)|_*; None where it is too large


def prepare(tokens, weights, norm, device):
    """Tables of tokens (n_tokens, dim) and weights (dim,); None where float32 cannot bound them."""
    centre = tokens.mean(0)
    apart = tokens - centre
    largest = float(np.abs(apart).max())
    rough = 2.0**-20 * float(np.abs(tokens).max())  # below, the differences have lost digits
    if not max(rough, 1e-140) < largest or tokens.shape[1] > _MOST_DIMENSIONS:
        return None
    far = largest * float(np.sqrt(np.square(apart / largest).sum(1).max()))
    heaviest = float(weights.max())
    if not 1e-140 < heaviest < 1e140:  # products with differences of tokens might underflow
        return None
    scale, weight_scale = 2.0 ** -math.frexp(far)[1], 2.0 ** -math.frexp(heaviest)[1]
    unit = apart * scale
    names = places_of(unit)
    there = names < len(tokens)
    placed = np.where(there[:, None], unit[np.minimum(names, len(tokens) - 1)], 0.0)
    half = np.where(there, np.square(placed).sum(1) / 2, _FAR)

    def put(values, dtype):
        return torch.as_tensor(values, device=device).to(dtype)

    placed = put(placed, torch.float64)
    return Tables(
        put(names, torch.int64),
        put(centre[:, None], torch.float64),
        scale,
        weight_scale,
        -placed.T.to(torch.float32).contiguous(),
        put(half, torch.float32),
        *_upper_sizes(placed, put(weights * weight_scale, torch.float64), norm, there),
    )


def places_of(points):
    """Indices (places,) of points (n, dim), a multiple of BLOCK; n where a place is empty.

    Split in halves along the widest coordinate, down to blocks.
    """
    blocks, stack = [], [np.arange(len(points))]
    while stack:
        some = stack.pop()
        if len(some) <= BLOCK:
            blocks.append(np.pad(some, (0, BLOCK - len(some)), constant_values=len(points)))
            continue
        values = points[some]
        values = values[:, np.ptp(values, axis=0).argmax()]
        some = some[np.argsort(values, kind="stable")]
        half = -(-len(some) // (2 * BLOCK)) * BLOCK
        stack += [some[half:], some[:half]]
    return np.concatenate(blocks)


def _upper_sizes(placed, weights, norm, there):
    """Largest |w (a - b)|_* of each place and block, and that of each pair, float32, rounded up.

    A float32 difference of coordinates up to 1 errs by 3 u, a norm by (d + 3) u of itself.
    """
    places, dim = placed.shape
    values = (placed * weights).to(torch.float32)
    width = {"l2": weights.norm(), "linf": weights.sum(), "l1": weights.max()}[norm]
    error = 4 * _U * float(width) + 1e-36  # more than is lost where small numbers are flushed
    empty = torch.as_tensor(~there, device=placed.device)
    largest, each = [], []
    for rows in values.split(max(1, 2**22 // places)):
        total = torch.zeros(len(rows), places, device=placed.device)
        for a, b in zip(rows.T[:, :, None], values.T, strict=True):
            part = (a - b).abs_()
            if norm == "l1":
                torch.maximum(total, part, out=total)
            else:
                total += part.mul_(part) if norm == "l2" else part
        total = total.sqrt_() if norm == "l2" else total
        total[:, empty] = 0.0
        total = total.mul_(1 + 1.1 * (dim + 6) * _U).add_(error).view(len(rows), -1, BLOCK)
        largest.append(total.amax(2))
        if places**2 <= _PAIRS:
            each.append(total)
    return torch.cat(largest), torch.cat(each) if each else None


def check_products(device):
    """Raise if float32 matrix products of a device are coarser than float32.

    TF32 and bfloat16 keep 11 and 8 of 24 binary digits; 1 + 2^-13 tells them from float32.
    """
    value = 1 + 2.0**-13
    factor = torch.full((64, 64), value, dtype=torch.float32, device=device)
    found = float((torch.matmul(factor, factor).double() - 64 * value**2).abs().max())
    if not found <= 1.1 * 64 * _U * 64 * value**2:
        raise ValueError(
            f"device={str(device)!r} multiplies float32 matrices with fewer digits than float32 "
            "has, so that nothing bounds its errors: unset NVIDIA_TF32_OVERRIDE and similar "
            'variables, or use device="cpu".'
        )


class Scores:
    """Scores (m, places) of a chunk of patches, and the least of every block.

    Tokens that have been measured are taken out, one by one.
    """

    def __init__(self, points, tables):
        """Take the patches (dim, m) in float64."""
        self.tables = tables
        unit = ((points - tables.centre) * tables.scale).to(torch.float32)
        self.values = torch.addmm(tables.half, unit.T, tables.negated)
        self.least = self.values.view(len(self.values), -1, BLOCK).amin(2)
        self.rows = torch.arange(len(self.values), device=points.device)
        self.length = unit.mul_(unit).sum(0).sqrt_().to(torch.float64)
        self.dim = len(points)
        self.error = 1.1 * (self.dim + 6) * _U * (self.length + 0.5)

    def _block(self, rows, blocks):
        """Scores (n, BLOCK) of one block of each row."""
        return _entries(self.values.view(len(self.values), -1, BLOCK), rows, blocks)

    def nearest(self):
        """Places (m,) with the least score."""
        return self.least_of(self.least.argmin(1))

    def least_of(self, blocks, rows=None):
        """Places with the least scores of one block of each row."""
        rows = self.rows if rows is None else rows
        return blocks * BLOCK + self._block(rows, blocks).argmin(1)

    def take(self, places, rows=None):
        """Remove one place of each row; returns its score."""
        rows = self.rows if rows is None else rows
        found = self.values[rows, places]
        self.put(places, torch.inf, rows)
        return found

    def put(self, places, scores, rows):
        """Set the score of one place of each row."""
        blocks = places // BLOCK
        self.values[rows, places] = scores
        self.least[rows, blocks] = self._block(rows, blocks).amin(1)

    def margin(self, moved=0.0, blur=0.0):
        """Largest amount (m,), float32, by which scores of a token that matters may exceed."""
        gamma = (self.dim + 8) * 2.0**-52
        rounded = 4 * gamma * (2 * (self.length + 1) ** 2 + moved**2)
        return ((2 * self.error + rounded + 2 * blur) * (1 + 1e-6)).to(torch.float32)

    def below(self, rows, base, factor=None, own=None):
        """Pairs (row, place) of scores that are at most base + factor * size.

        Parameters
        ----------
        rows : Tensor of int64 (r,)
        base, factor : Tensor of float32 (m,)
        own : Tensor of int64 (m,)
            Places to which sizes are taken.  Without factor and own the sizes are 0.

        Returns
        -------
        rows, places : Tensor of int64 (n_pairs,)
        many : Tensor of int64
            Rows with more than MOST places, which are left out.
        """
        limits = base[rows, None]
        if own is not None:
            sizes = self.tables.sizes.index_select(0, own[rows])
            limits = torch.addcmul(limits, sizes, factor[rows, None])
        # The negation of >, not <=: NaN is no reason to dismiss.
        hit = (self.least.index_select(0, rows) > limits).logical_not_()
        at, blocks = hit.nonzero(as_tuple=True)
        size = HITS * len(self.rows)
        parts = zip(rows[at].split(size), blocks.split(size), strict=True)
        found = [self._inside(*part, base, factor, own) for part in parts]
        rows, places = (torch.cat(part) for part in zip(*found, strict=True))
        count = torch.bincount(rows, minlength=len(self.rows))
        keep = count[rows] <= MOST
        return rows[keep], places[keep], (count > MOST).nonzero()[:, 0]

    def _inside(self, rows, blocks, base, factor, own):
        limits = base[rows, None]
        if own is not None:
            table = self.tables.each
            if table is None:
                table = self.tables.sizes[:, :, None]
            sizes = _entries(table, own[rows], blocks)
            limits = torch.addcmul(limits, sizes, factor[rows, None])
        inside = (self._block(rows, blocks) > limits).logical_not_()
        which, lane = inside.nonzero(as_tuple=True)
        return rows[which], blocks[which] * BLOCK + lane


def _entries(table, rows, blocks):
    """table[rows, blocks] of a table with three axes; this is faster."""
    return table.flatten(0, 1).index_select(0, rows * table.shape[1] + blocks)
