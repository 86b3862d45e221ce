r"""Nearest tokens and the exact radius inside which they stay the nearest.

The certificate.  A patch :math:`x` whose nearest token (L2) is :math:`a` keeps it as long as it
stays on :math:`a`'s side of the wall between :math:`a` and every other token :math:`b`.  The
distance to that wall, in the norm that measures the perturbation, is

.. math:: h(b) = \frac{|x - b|_2^2 - |x - a|_2^2}{2\, |w (a - b)|_*}

where :math:`|.|_*` is the dual norm (L2: L2; Linf: L1; L1: Linf) and :math:`w` says how far a
coordinate of :math:`x` moves when the user's own coordinate moves by one (1 without a scaling
step, 0 for the padding, which nobody can move).  The radius is the minimum over :math:`b`; it is
exact.  Nearest-prototype certificates go back to Saralajew, Holdijk, Villmann (NeurIPS 2020),
Wang et al. (arXiv:1906.03972) and Voracek, Hein (arXiv:2207.07208).

Floating point is part of the claim.  Let :math:`t` be the tokenisation that :func:`tokenize`
*computes*: in float64, squared differences summed one coordinate after the other.  With
:math:`d` coordinates, :math:`u = 2^{-53}` and :math:`g = (d + 2) u / (1 - (d + 2) u)`, a computed
squared distance is :math:`\hat D_b = D_b (1 + \theta) + \zeta` with :math:`|\theta| \le g` and
:math:`|\zeta| \le \eta` (underflow).  So :math:`t(x') = a` wherever
:math:`D_b(x') - D_a(x') > g (D_a(x') + D_b(x')) + 2 \eta` for all :math:`b`.  For
:math:`|x' - x| = \rho \le r_0`, with :math:`r_0` the minimum of the :math:`h(b)`, the left side is
at least :math:`D_b - D_a - 2 \rho |w (a - b)|_*`, and :math:`D(x') \le 2 D + 2 \kappa^2 r_0^2`
bounds the right one, where :math:`\kappa r_0` bounds how far the patch moves in L2.  Replacing the
true :math:`D` by the computed ones costs the same terms once more.  So :func:`certify` subtracts

.. math:: 4 \gamma (\hat D_a + \hat D_b + \kappa^2 r_0^2) + 4 \eta, \qquad
          \gamma = (d + 8)\, 2^{-52} > 2 g

from every numerator, and rounds the quotient down by a factor :math:`1 - \gamma`.  For every float
array :math:`x'` with :math:`|x' - x| < r`, in exact arithmetic, :math:`t(x') = t(x)`.

Tokens that differ in padded coordinates alone never change places, whatever the attacker does; only
the nearest of them to the padding takes part, so such a pair cannot be separated by rounding.
"""

from __future__ import annotations

import numpy as np
import torch

NORMS = ("l2", "linf", "l1")
_DUAL_ORDER = {"l2": 2, "linf": 1, "l1": np.inf}
_TINY = np.finfo(np.float64).tiny
_LARGEST = 1e150
_CHUNK_ELEMENTS = 2**18


# --- the certificate as one reads it ---------------------------------------------------------


def wall_distance(patch, own, other, norm="l2"):
    """Distance of a patch to the wall between its own token and one other token.

    Parameters
    ----------
    patch, own, other : ndarray (dim,)
    norm : {"l2", "linf", "l1"}
        The norm in which the perturbation of the patch is measured.

    Returns
    -------
    distance : float
        In the units of `patch`; negative where `other` is the nearer token.  Plain float64, not
        rounded down: see :func:`certify` for the sound form.
    """
    patch, own, other = (np.asarray(v, dtype=np.float64) for v in (patch, own, other))
    gap = np.sum((patch - other) ** 2) - np.sum((patch - own) ** 2)
    return float(gap / (2 * np.linalg.norm(own - other, _DUAL_ORDER[check_norm(norm)])))


def patch_radius(patch, tokens, norm="l2"):
    """Radius inside which a patch keeps its token.

    Parameters
    ----------
    patch : ndarray (dim,)
    tokens : ndarray (n_tokens, dim)
        Distinct tokens.
    norm : {"l2", "linf", "l1"}

    Returns
    -------
    token : int
        Index of the nearest token in L2, the first one where several are equally near.
    radius : float
        In the units of `patch`; inf where there is one token only.
    """
    patch, tokens = np.asarray(patch, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    token = int(np.argmin(np.sum((patch - tokens) ** 2, axis=1)))
    walls = (
        wall_distance(patch, tokens[token], other, norm)
        for index, other in enumerate(tokens)
        if index != token
    )
    return token, min(walls, default=np.inf)


def image_radii(patches, tokens, norm="l2"):
    """Map of the patch radii of one image.

    Parameters
    ----------
    patches : ndarray (rows, cols, dim)
    tokens : ndarray (n_tokens, dim)
    norm : {"l2", "linf", "l1"}

    Returns
    -------
    radii : ndarray (rows, cols)
        The map certifies all patches together, each within its own ball.  The largest ball of the
        whole image inside that product has the radius ``radii.min()``; the sum is no radius.
    """
    return np.array([[patch_radius(patch, tokens, norm)[1] for patch in row] for row in patches])


# --- the same for many patches, and sound in floating point ----------------------------------


def tokenize(patches, tokens, *, weights=None, device="cpu"):
    """Index of the nearest token (L2) of every patch.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
        Floating point or integers; distances are computed in float64.
    tokens : ndarray (n_tokens, dim)
    weights : ndarray (positions, dim) or None
        Zero where a coordinate is padding, that is, the same in all patches of that position.
    device : str or torch.device

    Returns
    -------
    ids : ndarray of int64 (n, positions)
        The first index where several tokens are equally near.

    Raises
    ------
    ValueError
        If a value is not finite or beyond 1e150, where squares overflow.
    """
    ids = np.empty(patches.shape[:2], dtype=np.int64)
    for chunk, where, cell in _chunks(patches, tokens, weights, device):
        ids[where] = cell.active[_squared_distances(chunk, cell).argmin(1)].cpu().numpy()
    return ids


def certify(
    patches, tokens, norm="l2", *, weights=None, noise=None, noise_growth=0.0, device="cpu"
):
    """Nearest token of every patch and the radius inside which it is certain to stay so.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    norm : {"l2", "linf", "l1"}
        The norm, within a patch, of the perturbation.
    weights : ndarray (positions, dim) or None
        How far each coordinate moves when the user's own moves by one; zero for the padding.
    noise : ndarray (n, positions) or None
        Bound on the L2 error with which a step before the tokeniser computed each patch.
    noise_growth : float
        By how much that bound grows per unit of the L2 perturbation of a patch.
    device : str or torch.device

    Returns
    -------
    ids : ndarray of int64 (n, positions)
        As :func:`tokenize`.
    radii : ndarray of float64 (n, positions)
        In the user's units: those of `patches` divided by `weights`.  Rounded down; 0 on a wall,
        inf where no other token can be reached.

    Raises
    ------
    ValueError
        If the norm is unknown, or a value is not finite or beyond 1e150.
    """
    check_norm(norm)
    ids = np.empty(patches.shape[:2], dtype=np.int64)
    radii = np.empty(patches.shape[:2], dtype=np.float64)
    for chunk, where, cell in _chunks(patches, tokens, weights, device):
        blur = None if noise is None else torch.tensor(noise[where], device=chunk.device)
        own, radius = _certify_chunk(chunk, cell, norm, blur, noise_growth)
        ids[where] = cell.active[own].cpu().numpy()
        radii[where] = radius.cpu().numpy()
    return ids, radii


def check_norm(norm):
    """Return `norm`, or raise ValueError where it is not one of "l2", "linf", "l1"."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}.")
    return norm


class _Cell:
    """The tokens as the patches of some positions see them: reachable coordinates apart."""

    def __init__(self, tokens, weights, padding, device):
        reach = weights > 0
        base = np.zeros(len(tokens))
        for value, column in zip(padding[~reach], tokens.T[~reach], strict=True):
            base += (value - column) ** 2
        # Of tokens that agree in all that can be reached, the one nearest to the padding wins.
        order = np.lexsort((np.arange(len(tokens)), base))
        _, first = np.unique(tokens[order][:, reach], axis=0, return_index=True)
        active = np.sort(order[first])
        self.dim = tokens.shape[1]
        self.reach = torch.as_tensor(np.flatnonzero(reach), device=device)
        self.weights = torch.as_tensor(weights[reach], device=device)
        self.active = torch.as_tensor(active, device=device)
        self.tokens = torch.as_tensor(tokens[active][:, reach], device=device)
        self.base = torch.as_tensor(base[active], device=device)


def _chunks(patches, tokens, weights, device):
    """Yield (patches (m, reachable dim), where they are, their cell), a bounded number at once."""
    n, positions, dim = patches.shape
    tokens = np.asarray(tokens, dtype=np.float64)
    if tokens.shape[1] != dim:
        raise ValueError(f"patches have {dim} values each but the tokens have {tokens.shape[1]}.")
    if not np.abs(tokens).max() <= _LARGEST:
        raise ValueError("tokens must be finite and at most 1e150 in magnitude.")
    weights = np.ones((positions, dim)) if weights is None else weights
    kinds, kind_of = np.unique(weights, axis=0, return_inverse=True)
    for kind, weight in enumerate(kinds if n else ()):
        members = np.flatnonzero(kind_of.ravel() == kind)
        cell = _Cell(tokens, weight, np.asarray(patches[0, members[0]], np.float64), device)
        size = max(1, _CHUNK_ELEMENTS // len(tokens))
        images = max(1, size // len(members))
        for start in range(0, n, images):
            for some in np.array_split(members, -(-len(members) // size)):
                where = np.ix_(np.arange(start, min(start + images, n)), some)
                chunk = torch.as_tensor(patches[where].astype(np.float64), device=device)
                if not bool(chunk.abs().max() <= _LARGEST):
                    raise ValueError("images must be finite and at most 1e150 in magnitude.")
                shape = chunk.shape[:2]
                where = tuple(np.broadcast_to(index, shape).ravel() for index in where)
                yield chunk.reshape(-1, dim).index_select(1, cell.reach), where, cell


def _squared_distances(patches, cell):
    """Squared distances (m, n_tokens), one coordinate after the other: the definition of t.

    Every operation is rounded on its own, so that all devices and chunk sizes agree to the bit.
    """
    total = cell.base.expand(len(patches), -1).clone()
    for x, v in zip(patches.T, cell.tokens.T, strict=True):
        difference = x[:, None] - v
        total += difference.mul_(difference)
    return total


def _dual_norms(own, others, weights, norm):
    """|w (a - b)|_* for all pairs (m, n_tokens), without underflow, not below the true value."""
    columns = list(zip(own.T, others.T, weights, strict=True))
    largest = torch.zeros(len(own), len(others), dtype=own.dtype, device=own.device)
    for a, b, w in columns:
        torch.maximum(largest, (a[:, None] - b).mul_(w).abs_(), out=largest)
    if norm == "l1":
        return largest + _TINY
    largest += _TINY
    total = torch.zeros_like(largest)
    for a, b, w in columns:
        part = (a[:, None] - b).mul_(w).abs_().div_(largest)
        total += part if norm == "linf" else part.mul_(part)
    return largest * (total if norm == "linf" else total.sqrt_()) + len(columns) * _TINY


def _certify_chunk(patches, cell, norm, noise, noise_growth):
    """Own tokens (m,) and radii (m,) of patches (m, dim) that share a cell geometry."""
    distances = _squared_distances(patches, cell)
    nearest, own = distances.min(1, keepdim=True)
    if len(cell.tokens) == 1:
        return own[:, 0], torch.full_like(nearest[:, 0], torch.inf)
    used, which = torch.unique(own, return_inverse=True)
    spread = 2 * _dual_norms(cell.tokens[used], cell.tokens, cell.weights, norm)[which[:, 0]]
    gap = distances - nearest
    unrounded = (gap / spread).scatter_(1, own, torch.inf).amin(1, keepdim=True)

    gamma = (cell.dim + 8) * np.finfo(np.float64).eps
    motion = _largest_motion(cell.weights, norm) * unrounded
    blur = 0.0 if noise is None else 2 * noise[:, None] + noise_growth * motion
    gap -= 4 * gamma * (distances + nearest + (motion + blur) ** 2) + 8 * cell.dim * _TINY
    if noise is not None:
        ones = torch.ones_like(cell.weights)
        apart = _dual_norms(cell.tokens[used], cell.tokens, ones, "l2")[which[:, 0]]
        gap -= 2 * apart * blur * (1 + gamma)
    radii = (gap / spread).scatter_(1, own, torch.inf).amin(1) * (1 - gamma)
    return own[:, 0], radii.nan_to_num_(0.0, posinf=torch.inf).clamp_(min=0)


def _largest_motion(weights, norm):
    """How far, in L2, a patch moves at most under a perturbation of norm 1."""
    return float(weights.norm() if norm == "linf" else weights.max())
