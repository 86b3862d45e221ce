r"""Nearest tokens and the exact radius within which they stay the nearest.

The certificate.  A patch :math:`x` whose nearest token (L2) is :math:`a` keeps it as long as it
stays on :math:`a`'s side of the boundary between :math:`a` and every other token :math:`b`.  The
distance to that boundary, in the norm that measures the perturbation, is

.. math:: h(b) = \frac{|x - b|_2^2 - |x - a|_2^2}{2\, |w (a - b)|_*}

where :math:`|.|_*` is the dual norm (L2: L2; Linf: L1; L1: Linf) and :math:`w` is how far a
coordinate of :math:`x` moves when the user's own coordinate moves by one (1 without a scaling
step, 0 for the padding, which nobody can move).  The radius is the minimum over :math:`b`.  It is
exact.  Nearest-prototype certificates go back to Saralajew, Holdijk, Villmann (NeurIPS 2020),
Wang et al. (arXiv:1906.03972) and Voracek, Hein (arXiv:2207.07208).

Floating point is part of the claim.  Let :math:`t` be the tokenization that :func:`tokenize`
*computes*: in float64, squared differences summed one coordinate after the other, those of the
padding first.  With
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

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_patchcert.voronoi.preparation import NORMS, cells, check_norm

if TYPE_CHECKING:
    import torch

__all__ = [
    "NORMS",
    "certify",
    "check_norm",
    "image_radii",
    "patch_radius",
    "step_to_wall",
    "tokenize",
    "wall_distance",
]

_DUAL_ORDER = {"l2": 2, "linf": 1, "l1": np.inf}


# --- the certificate as one reads it ---------------------------------------------------------


def wall_distance(patch: ArrayLike, own: ArrayLike, other: ArrayLike, norm: str = "l2") -> float:
    """Distance of a patch to the boundary between its own token and one other token.

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

    Examples
    --------
    >>> from sklearn_patchcert.voronoi import wall_distance
    >>> wall_distance([1, 0], own=[0, 0], other=[4, 0])
    1.0
    >>> wall_distance([1, 1], own=[0, 0], other=[4, 4], norm="linf")
    1.0
    """
    patch, own, other = (np.asarray(v, dtype=np.float64) for v in (patch, own, other))
    gap = np.sum((patch - other) ** 2) - np.sum((patch - own) ** 2)
    return float(gap / (2 * np.linalg.norm(own - other, _DUAL_ORDER[check_norm(norm)])))


def patch_radius(patch: ArrayLike, tokens: ArrayLike, norm: str = "l2") -> tuple[int, float]:
    """Radius within which a patch keeps its token.

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

    Examples
    --------
    >>> from sklearn_patchcert.voronoi import patch_radius
    >>> patch_radius([1, 0], tokens=[[0, 0], [4, 0], [0, 10]])
    (0, 1.0)
    """
    patch, tokens = np.asarray(patch, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    token = int(np.argmin(np.sum((patch - tokens) ** 2, axis=1)))
    walls = (
        wall_distance(patch, tokens[token], other, norm)
        for index, other in enumerate(tokens)
        if index != token
    )
    return token, min(walls, default=np.inf)


def image_radii(patches: NDArray[Any], tokens: ArrayLike, norm: str = "l2") -> NDArray[np.float64]:
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

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import image_radii
    >>> image_radii(np.array([[[0.1], [0.7]]]), tokens=np.array([[0.0], [1.0]])).round(6)
    array([[0.4, 0.2]])
    """
    return np.array([[patch_radius(patch, tokens, norm)[1] for patch in row] for row in patches])


# --- the same for many patches, and sound in floating point ----------------------------------


def tokenize(
    patches: NDArray[Any],
    tokens: ArrayLike,
    *,
    weights: NDArray[Any] | None = None,
    device: str | torch.device = "cpu",
    engine: str = "auto",
) -> NDArray[np.int64]:
    """Index of the nearest token (L2) of every patch.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
        Floating point or integers; distances are computed in float64.
    tokens : ndarray (n_tokens, dim)
    weights : ndarray (positions, dim) or None
        Zero where a coordinate is padding, that is, the same in all patches of that position.
    device : str or torch.device
    engine : {"auto", "dense", "two_pass", "walk"}
        See :func:`certify`.

    Returns
    -------
    ids : ndarray of int64 (n, positions)
        The first index where several tokens are equally near.

    Raises
    ------
    ValueError
        If a value is not finite or beyond 1e150, where squares overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import tokenize
    >>> tokenize(np.array([[[0.1], [0.7]]]), tokens=np.array([[0.0], [1.0]]))
    array([[0, 1]])
    """
    ids = np.empty(patches.shape[:2], dtype=np.int64)
    if weights is not None:  # only what is padding matters: positions are alike
        weights = (np.asarray(weights) != 0).astype(np.float64)
    for block, members, cell in cells(patches, tokens, weights, "l2", device, engine):
        found = cell.engine.tokenize(block, cell.tables)
        ids = _put(ids, members, cell.named(found))
    return ids


@overload
def certify(
    patches: NDArray[Any],
    tokens: ArrayLike,
    norm: str = "l2",
    *,
    weights: NDArray[Any] | None = None,
    noise: NDArray[Any] | None = None,
    noise_growth: float = 0.0,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    return_witness: Literal[False] = False,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...


@overload
def certify(
    patches: NDArray[Any],
    tokens: ArrayLike,
    norm: str = "l2",
    *,
    weights: NDArray[Any] | None = None,
    noise: NDArray[Any] | None = None,
    noise_growth: float = 0.0,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    return_witness: Literal[True],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]: ...


def certify(
    patches: NDArray[Any],
    tokens: ArrayLike,
    norm: str = "l2",
    *,
    weights: NDArray[Any] | None = None,
    noise: NDArray[Any] | None = None,
    noise_growth: float = 0.0,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    return_witness: bool = False,
) -> (
    tuple[NDArray[np.int64], NDArray[np.float64]]
    | tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
):
    """Find the nearest token of every patch and its patch radius.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    norm : {"l2", "linf", "l1"}
        The norm, within a patch, of the perturbation.
    weights : ndarray (positions, dim) or None
        How far each coordinate moves when the user's own moves by one; zero for the padding.
    noise : ndarray (n, positions) or None
        Bound on the L2 error with which a step before the tokenizer computed each patch.
    noise_growth : float
        By how much that bound grows per unit of the L2 perturbation of a patch.
    device : str or torch.device
        "auto" is the CPU, where a GPU has not been measured to be faster.
    engine : {"auto", "dense", "two_pass", "walk"}
        "dense" compares every patch with every token in float64, on any device.  "walk" looks only
        at the tokens that can matter, on the CPU.  "two_pass" finds these tokens by float32 matrix
        products, on any device.  All are exact and compute the same bits.  "auto" walks on the CPU
        and takes two passes elsewhere.
    return_witness : bool
        Whether to name the tokens behind the nearest walls, too.

    Returns
    -------
    ids : ndarray of int64 (n, positions)
        As :func:`tokenize`.
    radii : ndarray of float64 (n, positions)
        In the user's units: those of `patches` divided by `weights`.  Rounded down; 0 on a wall,
        inf where no other token can be reached.
    others : ndarray of int64 (n, positions)
        With `return_witness` only: the token behind the nearest wall; -1 where there is none.

    Raises
    ------
    ValueError
        If the norm is unknown, a value is not finite or beyond 1e150, or the device has no float64.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import certify
    >>> ids, radii = certify(np.array([[[0.1], [0.7]]]), tokens=np.array([[0.0], [1.0]]))
    >>> ids
    array([[0, 1]])
    >>> radii.round(6)
    array([[0.4, 0.2]])
    """
    ids = np.empty(patches.shape[:2], dtype=np.int64)
    radii, others = np.empty(ids.shape, dtype=np.float64), np.empty_like(ids)
    for block, members, cell in cells(patches, tokens, weights, norm, device, engine):
        blur = None if noise is None else np.ascontiguousarray(noise[:, members]).ravel()
        own, radius, other = cell.engine.certify(
            block, cell.tables, blur, noise_growth, bool(return_witness)
        )
        ids = _put(ids, members, cell.named(own))
        radii = _put(radii, members, radius)
        if return_witness:
            others = _put(others, members, np.where(other < 0, -1, cell.named(other)))
    return (ids, radii, others) if return_witness else (ids, radii)


def step_to_wall(
    patches: NDArray[Any],
    tokens: ArrayLike,
    ids: NDArray[np.integer[Any]],
    others: NDArray[np.integer[Any]],
    norm: str = "l2",
    *,
    weights: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Smallest perturbation that moves each patch onto the nearest boundary of its cell.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    ids, others : ndarray of int (n, positions)
        The own token and the one behind the wall, from :func:`certify`.
    norm : {"l2", "linf", "l1"}
    weights : ndarray (positions, dim) or None

    Returns
    -------
    steps : ndarray of float64 (n, positions, dim)
        In the user's units, plain float64: its norm is the radius but for rounding, and a step
        longer by one part in a thousand changes the token.  NaN where there is no wall.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import certify, step_to_wall
    >>> patches, tokens = np.array([[[0.1], [0.7]]]), np.array([[0.0], [1.0]])
    >>> ids, _, others = certify(patches, tokens, return_witness=True)
    >>> step_to_wall(patches, tokens, ids, others).round(6)
    array([[[ 0.4],
            [-0.2]]])
    """
    check_norm(norm)
    tokens = np.asarray(tokens, dtype=np.float64)
    weights = np.ones(patches.shape[1:]) if weights is None else weights
    a, b = tokens[ids], tokens[others]
    gap = np.square(patches - b).sum(-1) - np.square(patches - a).sum(-1)
    normal = weights * (b - a)
    size = np.abs(normal).max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal /= size  # so that its square neither overflows nor vanishes
        length = gap[..., None] / (2 * size)
        if norm == "l2":
            steps = length * normal / np.square(normal).sum(-1, keepdims=True)
        elif norm == "linf":
            steps = length * np.sign(normal) / np.abs(normal).sum(-1, keepdims=True)
        else:
            first = np.abs(normal).argmax(-1)[..., None] == np.arange(normal.shape[-1])
            steps = length * normal * first
    return np.where(others[..., None] < 0, np.nan, steps)


def _put(out, members, found):
    """`out` (n, positions) with what was found of some positions; itself, if these are all."""
    found = found.reshape(len(out), -1)
    if isinstance(members, slice):
        return found
    out[:, members] = found
    return out
