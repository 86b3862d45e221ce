"""What an attack has found, as it is judged: inside the ball and the bounds, in float64."""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-12  # of a norm, for its sum of squares


def settled(X, moved, eps, norm, bounds=None):
    """Images of the dtype of X, as near to what an attack has found as its ball and bounds allow.

    Attacks compute in float32, in which X itself may be rounded.  What rounding takes beyond the
    ball goes back; what the attack did not touch stays what it is in X.

    Parameters
    ----------
    X : ndarray of float32 or float64 (n, ...)
        Within the bounds.
    moved : ndarray of float32, the shape of X
    eps : float
        inf: no ball.
    norm : {"l2", "linf"}
    bounds : tuple (low, high) or None

    Returns
    -------
    adversarial : ndarray, shape and dtype of X
        Its perturbation, as :func:`norms_of` measures it, is at most eps.

    Raises
    ------
    ValueError
        If `moved` has another shape or values that are not finite.
    """
    if moved.shape != X.shape or not np.isfinite(moved).all():
        raise ValueError(
            f"The attack must return finite images of shape {X.shape}; it returned {moved.shape}"
            + ("." if moved.shape != X.shape else " with NaN or inf.")
        )
    wide = X.astype(np.float64)
    step = np.where(moved == X.astype(np.float32), 0.0, moved.astype(np.float64) - wide)
    if bounds is not None:
        step = (wide + step).clip(*bounds) - wide
    if norm == "linf":
        step = step.clip(-eps, eps)
    else:
        norms = norms_of(X, wide + step, norm)
        limit = eps * (1 - _ROUNDING)
        share = np.divide(limit, norms, out=np.ones_like(norms), where=norms > limit)
        step *= share.reshape(-1, *[1] * (X.ndim - 1))
    made = (wide + step).astype(X.dtype)
    beyond = np.abs(made - wide) > np.abs(step)
    made = np.where(beyond, np.nextafter(made, X), made)
    return made if bounds is None else made.clip(*np.array(bounds, dtype=X.dtype))


def norms_of(X, adversarial, norm):
    """Norms (n,) of perturbations, measured in float64."""
    delta = adversarial.astype(np.float64) - X.astype(np.float64)
    flat = delta.reshape(len(X), -1)
    return np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
