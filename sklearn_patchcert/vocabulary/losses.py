"""What a vocabulary is trained for: pure functions of tensors, each returning a scalar.

The names of the ablations and the formulas of the entropy and structure losses are those of the
poster that this library started from.  All lengths are in the units of the training, in which the
patches' values have mean 0 and standard deviation 1.  A loss of your own is a function of a
:class:`Batch`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_patchcert.voronoi import surrogates


class Batch(NamedTuple):
    """The data of one training step, as a loss receives it.

    Parameters
    ----------
    patches : Tensor (n, positions, dim)
        The patches of n whole images.
    reconstruction : Tensor (n, positions, dim)
        The same made of tokens; differentiable, as the tokens are.
    tokens : Tensor (n_tokens, dim)
    squares : Tensor (n, positions, n_tokens)
        Squared distances of the patches, with their noise where there is any, to the tokens.
    grid : tuple (rows, cols, groups)
        How the positions lie in an image.
    patch_size : tuple (ph, pw)
    image_size : tuple (H, W)

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> def absolute(batch):
    ...     return (batch.reconstruction - batch.patches).abs().mean()
    >>> vocabulary = PatchVocabulary(8, 4, loss=absolute, max_iter=2, random_state=0)
    >>> vocabulary.fit(load_digits().images[:100]).vocabulary_.shape
    (8, 16)
    """

    patches: Tensor
    reconstruction: Tensor
    tokens: Tensor
    squares: Tensor
    grid: tuple[int, int, int]
    patch_size: tuple[int, int]
    image_size: tuple[int, int]

    def images(self, patches: Tensor) -> Tensor:
        """Join patches to images.

        Parameters
        ----------
        patches : Tensor (n, positions, dim)

        Returns
        -------
        images : Tensor (n, channels, H, W)
            Without the padding.
        """
        blocks = patches.reshape(len(patches), *self.grid, -1)
        return surrogates.join(blocks, self.patch_size, self.image_size)


def reconstruction_loss(reconstruction: Tensor, patches: Tensor) -> Tensor:
    r"""Mean squared L2 distance between the patches and their reconstructions.

    .. math:: L = \frac{1}{nP} \sum_{i, p} |\hat x_{ip} - x_{ip}|_2^2

    Parameters
    ----------
    reconstruction, patches : Tensor (n, positions, dim)

    Returns
    -------
    loss : Tensor ()
        At least 0; with hard tokens its minimum is the k-means optimum.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.vocabulary import reconstruction_loss
    >>> reconstruction_loss(torch.zeros(1, 2, 4), torch.ones(1, 2, 4))
    tensor(4.)
    """
    return (reconstruction - patches).square().sum(-1).mean()


def negentropy_loss(squares: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Negative entropy of the softmax of the distances between a patch and the tokens.

    .. math:: L = \frac{1}{nP} \sum_{i, p} \sum_b w_b \log w_b,
        \quad w = \mathrm{softmax}(-|x_{ip} - b|_2 / T)

    Parameters
    ----------
    squares : Tensor (n, positions, n_tokens)
        Squared distances.
    temperature : float
        :math:`T`, in the units of a distance.

    Returns
    -------
    loss : Tensor ()
        Between :math:`-\log n_{tokens}`, where all tokens are equally far, and 0.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.vocabulary import negentropy_loss
    >>> negentropy_loss(torch.ones(1, 1, 4))  # four tokens, equally far: -log 4
    tensor(-1.3863)
    """
    logs = (-surrogates.root(squares) / temperature).log_softmax(-1)
    return (logs.exp() * logs).sum(-1).mean()


def structure_loss(reconstruction: Tensor, images: Tensor, eps: float = 1e-3) -> Tensor:
    r"""Mean squared difference of the Sobel magnitudes of two images.

    .. math:: L = |m(\hat x) - m(x)|_2^2 / N,
        \quad m(x) = \sqrt{(x * K_x)^2 + (x * K_y)^2 + \epsilon^2}

    The poster adds :math:`\epsilon` outside of the root, where its gradient is infinite on a flat
    image.

    Parameters
    ----------
    reconstruction, images : Tensor (n, channels, H, W)
        Both sides at least 3.
    eps : float

    Returns
    -------
    loss : Tensor ()
        At least 0; averaged over the :math:`N` inner pixels of all channels.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.vocabulary import structure_loss
    >>> structure_loss(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))  # both flat
    tensor(0.)
    """
    return (_sobel(reconstruction, eps) - _sobel(images, eps)).square().mean()


def margin_loss(
    squares: Tensor, tokens: Tensor, margin: float = 1.0, temperature: float = 0.1
) -> Tensor:
    r"""Hinge loss on the distances of the patches to their cell boundaries.

    .. math:: L = \frac{1}{nP} \sum_{i, p} \sum_{b \ne a} w_b \max(0, m - h_b),
        \quad w = \mathrm{softmax}(-h / T),
        \quad h_b = \frac{|x_{ip} - b|_2^2 - |x_{ip} - a|_2^2}{2 |a - b|_2}

    Parameters
    ----------
    squares : Tensor (n, positions, n_tokens)
        Squared distances of the patches to the tokens, of which :math:`a` is the nearest.
    tokens : Tensor (n_tokens, dim)
    margin, temperature : float
        :math:`m` and :math:`T`, in the units of a distance.

    Returns
    -------
    loss : Tensor ()
        At least 0, where every radius is at least `margin`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.vocabulary import margin_loss
    >>> tokens, patch = torch.tensor([[0.0], [2.0]]), torch.tensor([[[0.5]]])
    >>> margin_loss((patch - tokens[:, 0]).square(), tokens)  # a radius of 0.5, wanted is 1
    tensor(0.5000)
    """
    if len(tokens) < 2:
        return squares.sum() * 0
    found = surrogates.walls(squares, tokens)
    weights = (-found / temperature).softmax(-1)
    return (weights * (margin - found).clamp_min(0)).sum(-1).mean()


def _sobel(images: Tensor, eps: float) -> Tensor:
    """Magnitudes of the gradient (n, channels, H - 2, W - 2)."""
    smooth = images[..., 2:, :] + 2 * images[..., 1:-1, :] + images[..., :-2, :]
    along = smooth[..., 2:] - smooth[..., :-2]
    smooth = images[..., 2:] + 2 * images[..., 1:-1] + images[..., :-2]
    down = smooth[..., 2:, :] - smooth[..., :-2, :]
    return torch.sqrt(along.square() + down.square() + eps**2)
