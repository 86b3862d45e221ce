r"""Randomized smoothing (Cohen, Rosenfeld, Kolter, ICML 2019, arXiv:1902.02918): its mathematics.

The smoothed classifier answers :math:`g(x) = \arg\max_c P(f(x + \sigma z) = c)` with standard
normal z.  Where :math:`P(f(x + \sigma z) = c) \ge p > 1/2`, g keeps its answer c for every
perturbation of L2 norm below :math:`\sigma \Phi^{-1}(p)`.  The bound p comes from counts, and is
wrong with a probability of at most alpha.

The theorem is about real numbers.  In floating point the noise is not quite normal and sums are
rounded, which an adversary who chooses inputs for that can exploit (Voráček, Hein, ICLR 2023,
arXiv:2207.07209); nothing here accounts for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

ABSTAIN = -1
"""The answer where the counts do not show which class is the most probable."""


def lower_bound(counts: ArrayLike, n: int, alpha: float) -> NDArray[np.float64]:
    """One-sided Clopper-Pearson lower bound of a probability, from `counts` successes in n draws.

    Parameters
    ----------
    counts : array-like of int
    n : int
    alpha : float
        Probability with which the true one may lie below the bound.

    Returns
    -------
    p : ndarray of float

    Examples
    --------
    >>> from sklearn_patchcert.smoothing import lower_bound
    >>> lower_bound([50, 99, 100], n=100, alpha=0.001).round(3)
    array([0.345, 0.911, 0.933])
    """
    counts = np.asarray(counts)
    with np.errstate(invalid="ignore"):
        bound = stats.beta.ppf(alpha, counts, n - counts + 1)
    return np.where(counts > 0, bound, 0.0)


def certified_radius(p: ArrayLike, sigma: float) -> NDArray[np.float64]:
    """Smoothed L2 radius for a probability of at least p: sigma Phi^-1(p), or 0 below one half.

    Parameters
    ----------
    p : array-like of float
    sigma : float
        Of the noise, in the units in which the radius is wanted.

    Returns
    -------
    radius : ndarray of float

    Examples
    --------
    >>> from sklearn_patchcert.smoothing import certified_radius
    >>> certified_radius([0.4, 0.9, 0.99], sigma=0.5).round(3)
    array([0.   , 0.641, 1.163])
    """
    p = np.asarray(p, dtype=np.float64)
    return np.where(p > 0.5, sigma * stats.norm.ppf(p), 0.0)


def is_decided(first: ArrayLike, second: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Test whether the larger of two counts shows which class is more probable.

    Parameters
    ----------
    first, second : array-like of int (n,)
        Counts of the most frequent class and of the next.
    alpha : float
        Level of the two-sided binomial test.

    Returns
    -------
    decided : ndarray of bool (n,)

    Examples
    --------
    >>> from sklearn_patchcert.smoothing import is_decided
    >>> is_decided([90, 55], [10, 45], alpha=0.001)
    array([ True, False])
    """
    total = np.asarray(first) + np.asarray(second)
    p_value = np.minimum(1.0, 2 * stats.binom.sf(np.asarray(first) - 1, total, 0.5))
    return (p_value <= alpha) & (total > 0)


def noisy_copies(
    image: NDArray[np.float32],
    n: int,
    sigma: float,
    seed: int,
    index: int,
    stage: int,
    batch_size: int,
) -> Iterator[NDArray[np.float32]]:
    """Make copies of an image with Gaussian noise that depends only on the seed and the index.

    Parameters
    ----------
    image : ndarray (...), float32
    n : int
    sigma : float
    seed, index, stage : int
        Of all images, of this image among them, and of the use that is made of the noise.
    batch_size : int
        How many copies come at once.

    Yields
    ------
    copies : ndarray (m, ...), float32
        n altogether.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.smoothing import noisy_copies
    >>> image = np.zeros((8, 8), dtype=np.float32)
    >>> options = {"sigma": 0.5, "seed": 0, "index": 0, "stage": 0}
    >>> [part.shape for part in noisy_copies(image, 5, batch_size=3, **options)]
    [(3, 8, 8), (2, 8, 8)]
    """
    bits = np.random.SFC64(np.random.SeedSequence((seed, stage, index)))
    generator = np.random.Generator(bits)
    for start in range(0, n, batch_size):
        shape = min(batch_size, n - start), *image.shape
        noise = generator.standard_normal(shape, dtype=np.float32)
        noise *= np.float32(sigma)
        noise += image
        yield noise


def class_counts(
    predict: Callable[[NDArray[np.float32]], ArrayLike],
    images: NDArray[np.float32],
    n: int,
    sigma: float,
    *,
    n_classes: int,
    seed: int,
    stage: int,
    indices: Sequence[int] | NDArray[np.integer[Any]],
    batch_size: int,
) -> NDArray[np.int64]:
    """Count how often each class is predicted for noisy copies of images.

    Parameters
    ----------
    predict : callable, images (m, ...) -> class indices (m,)
    images : ndarray (k, ...), float32
    n : int
        Copies of each image.
    sigma : float
    n_classes : int
    seed, stage : int
    indices : sequence of int (k,)
        Of the images, for their noise.
    batch_size : int
        Images that `predict` is given at once, at least; copies of several images go together.

    Returns
    -------
    counts : ndarray of int (k, n_classes)

    Raises
    ------
    ValueError
        If `predict` returns anything but one class index for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.smoothing import class_counts
    >>> def predict(images):
    ...     return (images[:, 0] > 0).astype(int)
    >>> counts = class_counts(
    ...     predict, np.array([[5.0]], dtype=np.float32), 100, sigma=1.0, n_classes=2, seed=0,
    ...     stage=0, indices=[0], batch_size=50,
    ... )
    >>> counts
    array([[  0, 100]])
    """
    counts = np.zeros((len(images), n_classes), dtype=np.int64)
    waiting: list = []
    owners: list = []
    size = 0

    def flush():
        nonlocal waiting, owners, size
        if size:
            answers = np.asarray(predict(np.concatenate(waiting)))
            if answers.shape != (size,) or answers.min() < 0 or answers.max() >= n_classes:
                raise ValueError(
                    f"predict must return {size} class indices in 0..{n_classes - 1}, got an array "
                    f"of shape {answers.shape}."
                )
            np.add.at(counts, (np.concatenate(owners), answers), 1)
        waiting, owners, size = [], [], 0

    for k, (image, index) in enumerate(zip(images, indices, strict=True)):
        for part in noisy_copies(image, n, sigma, seed, index, stage, batch_size):
            waiting.append(part)
            owners.append(np.full(len(part), k))
            size += len(part)
            if size >= batch_size:
                flush()
    flush()
    return counts
