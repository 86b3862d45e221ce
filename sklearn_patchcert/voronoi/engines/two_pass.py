"""The engine for devices: a float32 matrix product dismisses, float64 decides what is left.

The first pass computes the scores of all tokens and the least score of every block of tokens
(:mod:`sklearn_patchcert.voronoi.engines.shortlist` has the bounds and their proofs).  It names the
own token of almost every patch; where several are within the bound, float64 decides.  The second
measures one wall of each patch in float64 and, by a table with a row for each own token, dismisses
the blocks whose tokens cannot have a nearer one.  The few tokens that are left are measured in
float64 by the operations of :mod:`sklearn_patchcert.voronoi.engines.dense`, so that ids, radii and
witnesses have the same bits as those of the other engines.

*Memory.*  Patches are processed in chunks whose temporary arrays take at most `memory` bytes: by
default 32 MiB on the CPU, and on a GPU 8 GiB or a quarter of what is free, since a chunk must be
worth the start of some 200 + 10 d kernels.  The tables come on top: 4 bytes for each pair of a
token and a block of 32, up to 8,192 tokens 4 for each pair of tokens, and up to 1,024 another 8.

*Cost*, for one patch and k tokens of d numbers: 2 d k float32 operations; 8 k bytes of scores,
written and read once; some 30 k / 32 bytes of least scores and thresholds; and, in float64, d
differences and squares for each of 2 tokens and those of the shortlist.  On patches of CIFAR-10
(4 x 4, one channel or three; 64 to 4,096 tokens) float64 decides the token of 0.1 to 0.8 % of the
patches, shortlists have 0.2 to 0.6 tokens on average, and fewer than 2 patches in 10,000 are
measured against every token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from sklearn_patchcert.torch_globals import plain_torch
from sklearn_patchcert.voronoi.engines import dense, shortlist

MEMORY = 2**33  # less on a device with less than four times as much free
CPU_MEMORY = 2**25  # larger chunks leave its caches
_TABLE = 2**20  # pairs of tokens whose dual norms are kept


class Prepared(NamedTuple):
    """What the searches need of the tokens."""

    exact: Any  # tokens (n_tokens, dim) and weights (dim,) in float64, the norm: as dense has them
    columns: Any  # float64 (dim, places)
    tables: shortlist.Tables | None
    between: Any  # float64 (places, places): dual norms of pairs, or None
    motion: float
    memory: int


def prepare(tokens, weights, norm, device, memory=None):
    """What the searches below need of the tokens (n_tokens, dim) and weights (dim,).

    Raises
    ------
    ValueError
        If the float32 matrix products of the device are coarser than float32.
    """
    device = torch.device(device)
    memory = _usual_memory(device) if memory is None else memory
    with plain_torch():
        shortlist.check_products(device)
        exact = dense.prepare(tokens, weights, norm, device)
        tables = None
        if len(tokens) > 1:
            tables = shortlist.prepare(tokens, weights, norm, device)
        columns = between = None
        if tables is not None:
            placed = exact[0][tables.names.clamp(max=len(tokens) - 1)]
            columns = placed.T.contiguous()
            if len(placed) ** 2 <= _TABLE:
                between = dense.all_norms(placed, placed, exact[1], norm)
    motion = dense.largest_motion(weights, norm)
    return Prepared(exact, columns, tables, between, motion, memory)


def _usual_memory(device):
    if device.type == "cuda":
        return min(MEMORY, torch.cuda.mem_get_info(device)[0] // 4)
    return CPU_MEMORY if device.type == "cpu" else MEMORY // 8


def tokenize(patches, prepared):
    """Index of the nearest token of every patch (n, dim): ids (n,)."""
    return search(patches, prepared, walls=False)[0]


def certify(patches, prepared, noise=None, noise_growth=0.0, witnesses=True):
    """Ids (n,), radii (n,) and the tokens behind the nearest walls (n,) of patches (n, dim).

    The last are there in any case: they cost nothing more.
    """
    return search(patches, prepared, noise, noise_growth)


def search(patches, prepared, noise=None, noise_growth=0.0, walls=True, tally=None):
    """Ids, radii and witnesses of patches (n, dim), chunk by chunk.

    A dict `tally` gets sums over patches: how many were "undecided" by the first pass, "measured"
    against every token, and how many tokens were "listed" by the second pass.
    """
    device, found = prepared.exact[0].device, []
    size = chunk_size(prepared)
    for start in range(0, len(patches), size):
        points = _on_device(patches[start : start + size], device)
        blur = None
        if noise is not None:
            part = np.asarray(noise[start : start + size], dtype=np.float64)
            blur = torch.as_tensor(part, device=device)
        parts = search_tensors(points, prepared, blur, noise_growth, walls, tally)
        found.append(tuple(part.cpu() for part in parts))
    return tuple(torch.cat(parts).numpy() for parts in zip(*found, strict=True))


def search_tensors(patches, prepared, noise=None, noise_growth=0.0, walls=True, tally=None):
    """As :func:`search`, of a tensor (n, dim) on the device, whose results stay there."""
    found, size = [], chunk_size(prepared)
    with plain_torch():
        for start in range(0, len(patches), size):
            points = patches[start : start + size].T.to(torch.float64).contiguous()
            blur = None if noise is None else noise[start : start + size]
            chunk = _Chunk(points, prepared, blur, float(noise_growth), walls, tally)
            found.append(chunk.found())
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def chunk_size(prepared):
    """Patches in a chunk whose arrays take at most the memory, see :func:`row_bytes`."""
    return max(1, prepared.memory // row_bytes(prepared))


def row_bytes(prepared):
    """Bytes for one patch: scores, least scores with thresholds and hits, float64 of pairs."""
    tokens, _, _ = prepared.exact
    count, dim = tokens.shape
    if prepared.tables is None:
        return 160 * count + 16 * dim
    places, blocks = prepared.tables.sizes.shape
    hits = (13 * shortlist.BLOCK + 40) * shortlist.HITS
    return 4 * places + 30 * blocks + 60 * dim + hits + 72 * shortlist.MOST


def _on_device(patches, device):
    """Patches (m, dim), copied to the device in their own dtype, if that is a common one."""
    if patches.dtype.newbyteorder("=") not in (np.float32, np.float64, np.uint8):
        patches = patches.astype(np.float64)
    patches = np.ascontiguousarray(patches, dtype=patches.dtype.newbyteorder("="))
    if not patches.flags.writeable or min(patches.strides) < 0:  # torch takes neither
        patches = patches.copy()
    return torch.as_tensor(patches, device=device)


class _Chunk:
    """The way of some patches (dim, m) through both passes."""

    def __init__(self, points, prepared, noise, growth, walls, tally):
        self.points, self.prepared, self.tables = points, prepared, prepared.tables
        self.noise, self.growth, self.walls, self.tally = noise, growth, walls, tally

    def found(self):
        """Ids, radii and witnesses (m,)."""
        m, device = self.points.shape[1], self.points.device
        if self.tables is None:
            return self._measured(torch.arange(m, device=device))
        self.scores = shortlist.Scores(self.points, self.tables)
        self.hard = ~(self.scores.error < 1)
        own = self._own_tokens()
        names, radii = self.tables.names, torch.zeros(m, dtype=torch.float64, device=device)
        witness = torch.zeros_like(own)
        if self.walls:
            radii, witness = self._walls(own)
        del self.scores
        ids = names[own]
        hard = self.hard.nonzero()[:, 0]
        self._count("measured", len(hard))
        if len(hard):
            ids[hard], radii[hard], witness[hard] = self._measured(hard)
        return ids, radii, witness

    def _count(self, name, number):
        if self.tally is not None:
            self.tally[name] = self.tally.get(name, 0) + int(number)

    def _measured(self, rows):
        """The definition: all tokens, in float64."""
        size = max(1, self.prepared.memory // (160 * len(self.prepared.exact[0])))
        parts = []
        for some in rows.split(size):
            noise = None if self.noise is None else self.noise[some]
            points = self.points[:, some].T
            parts.append(dense.certify_chunk(points, self.prepared.exact, noise, self.growth))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    # --- the first pass

    def _own_tokens(self):
        """Places (m,) of the nearest tokens, whose scores are then taken out."""
        scores = self.scores
        own = scores.nearest()
        self.score = scores.take(own)
        limit = self.score + scores.margin()
        open_ = (scores.least.amin(1) <= limit) & ~self.hard
        rows = open_.nonzero()[:, 0]
        self._count("undecided", len(rows))
        self.distance = self._distances(None, own)
        if not len(rows):
            return own
        rows, places, many = scores.below(rows, limit)
        self.hard[many] = True
        least, first = self._least(self.distance, own, rows, self._distances(rows, places), places)
        rows = (first != self.tables.names[own]).nonzero()[:, 0]
        scores.put(own[rows], self.score[rows], rows)
        own[rows] = self._place_of()[first[rows]]
        self.score[rows] = scores.take(own[rows], rows)
        self.distance = least
        return own

    def _least(self, values, own, rows, others, places):
        """The least of values (m,) and others (n_pairs,) of each row, and its first token."""
        names = self.tables.names
        least = values.scatter_reduce(0, rows, others, "amin")
        first = torch.where(values == least, names[own], len(names))
        equal = others == least[rows]
        return least, first.scatter_reduce(0, rows[equal], names[places[equal]], "amin")

    def _place_of(self):
        """Place of each token; the last entry is that of none."""
        names = self.tables.names
        places = torch.empty(len(names) + 1, dtype=torch.int64, device=names.device)
        places[names] = torch.arange(len(names), device=names.device)
        return places

    # --- the second

    def _walls(self, own):
        """Radii (m,) and the tokens behind the nearest walls (m,)."""
        scores, tables, motion = self.scores, self.tables, self.prepared.motion
        sizes = tables.sizes.index_select(0, own)
        likely = ((scores.least - self.score[:, None]) / sizes).argmin(1)
        other = scores.least_of(likely)
        scores.take(other)
        first = self._distances(None, other)
        first_spread = 2 * self._norms(own, other)
        wall = (first - self.distance) / first_spread
        blur = 0.0
        if self.noise is not None:
            blur = (2 * self.noise + self.growth * motion * wall) * tables.scale
        moved = motion * wall * tables.scale + blur
        near = (wall * (tables.scale / tables.weight_scale) * (1 + 1e-5)).to(torch.float32)
        base = self.score + scores.margin(moved, blur)
        self.hard |= ~(base + near * sizes.amax(1) < 1e29)
        rows, places, many = scores.below((~self.hard).nonzero()[:, 0], base, near, own)
        self.hard[many] = True
        self._count("listed", len(rows))
        squares = self._distances(rows, places)
        spread = 2 * self._norms(own[rows], places)
        unrounded = wall.scatter_reduce(
            0, rows, (squares - self.distance[rows]).div_(spread), "amin"
        )
        least = self._lowered(None, first, first_spread, unrounded, own, other)
        walls = self._lowered(rows, squares, spread, unrounded, own, places)
        radii, witness = self._least(least, other, rows, walls, places)
        gamma = dense.gamma_of(len(self.points))
        return (radii * (1 - gamma)).clamp_(min=0), witness

    def _lowered(self, rows, squares, spread, unrounded, own, places):
        """Distances of walls as the definition rounds them down."""
        dim, nearest, noise = len(self.points), self.distance, self.noise
        if rows is not None:
            nearest, unrounded, own = nearest[rows], unrounded[rows], own[rows]
            noise = None if noise is None else noise[rows]
        motion, blur, apart = self.prepared.motion * unrounded, 0.0, None
        if noise is not None:
            blur = 2 * noise + self.growth * motion
            apart = self._apart(own, places, torch.ones_like(self.prepared.exact[1]), "l2")
        return dense.lowered(squares, nearest, spread, motion, blur, apart, dim)

    # --- float64, one coordinate after the other

    def _distances(self, rows, places):
        """Squared distances of patches, all where `rows` is None, to one token each."""
        if rows is None:
            return self._some_distances(self.points, places)
        parts = zip(self._split(rows), self._split(places), strict=True)
        found = [self._some_distances(self.points.index_select(1, at), some) for at, some in parts]
        return torch.cat(found)

    def _some_distances(self, points, places):
        tokens = self.prepared.columns.index_select(1, places)
        return dense.squared_distances(zip(points, tokens, strict=True))

    def _norms(self, own, places):
        """|w (a - b)|_* of pairs of places."""
        if self.prepared.between is not None:
            return self.prepared.between[own, places]
        _, weights, norm = self.prepared.exact
        return self._apart(own, places, weights, norm)

    def _apart(self, own, places, weights, norm):
        parts = zip(self._split(own), self._split(places), strict=True)
        return torch.cat([self._some_norms(*part, weights, norm) for part in parts])

    def _some_norms(self, own, places, weights, norm):
        a, b = (self.prepared.columns.index_select(1, some) for some in (own, places))
        return dense.dual_norms(lambda: zip(a, b, weights, strict=True), norm)

    def _split(self, pairs):
        """No more pairs at once than there are patches, so that their numbers fit, too."""
        return pairs.split(self.points.shape[1])
