"""What a vocabulary is trained for: pure functions of tensors, each returning a scalar.

A loss is called as ``loss(reconstruction, patches, tokens)`` with the reconstruction made of
tokens, shapes ``(n, positions, dim)``, the same for the patches, and ``(n_tokens, dim)``.
"""

from __future__ import annotations


def reconstruction_loss(reconstruction, patches, tokens=None):
    r"""Mean squared L2 distance of the patches to the tokens that stand for them.

    .. math:: L = \frac{1}{nP} \sum_{i, p} |v_{t(x_{ip})} - x_{ip}|_2^2

    Parameters
    ----------
    reconstruction, patches : Tensor (n, positions, dim)
    tokens : Tensor (n_tokens, dim)
        Not used.

    Returns
    -------
    loss : Tensor ()
        Its minimum over the tokens is the k-means optimum.
    """
    return (reconstruction - patches).square().sum(-1).mean()
