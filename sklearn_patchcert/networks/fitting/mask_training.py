"""Masks over training images, as a classifier behind double masking will see them."""

from __future__ import annotations

import copy

import numpy as np
import torch

from sklearn_patchcert.checks import check_count
from sklearn_patchcert.networks.fitting.weights import losses_by_image


class RandomMasks:
    """Hide parts of training images behind masks that are drawn at random.

    Parameters
    ----------
    masks : array-like of bool (n_masks, H, W)
        True where a mask hides the image.
    values : None, int or array-like that broadcasts to (C, H, W), default=None
        What replaces hidden values.  None: the mean color of the training images, as the network
        sees them.  An int: the token of this id.
    share : float, default=1.0
        Probability that an image has a mask.
    pairs : float, default=0.75
        Probability that an image with a mask has a second one.
    candidates : int, default=1
        How many sets of masks are drawn for an image.  Of several, training takes the one with the
        largest loss, as Saha et al. (TMLR 2023, arXiv:2306.12610) do by a greedy search.  Each
        costs one more forward pass, and the criterion needs a `reduction`, as those of torch have.
        A call by yourself draws one.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.mask_training import RandomMasks
    >>> masks = RandomMasks([[[True, False]], [[False, True]]], values=0.0, pairs=0.0)
    >>> masks(torch.ones(100, 1, 1, 2)).sum()
    tensor(100.)
    """

    candidates = 1  # of those pickled before

    def __init__(self, masks, values=None, *, share=1.0, pairs=0.75, candidates=1):
        self.masks = np.asarray(masks, dtype=bool)
        if self.masks.ndim != 3 or not len(self.masks):
            raise ValueError(f"masks must be (n_masks, H, W), got shape {self.masks.shape}.")
        for name, value in (("share", share), ("pairs", pairs)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number in [0, 1], got {value!r}.")
        self.values, self.share, self.pairs = values, share, pairs
        self.candidates = check_count("candidates", candidates)

    def _with_values(self, values):
        """The same masks with other values in hidden places."""
        made = copy.copy(self)
        made.values = values
        return made

    def __call__(self, images):
        """Masked images (n, C, H, W)."""
        if self.masks.shape[1:] != tuple(images.shape[2:]):
            raise ValueError(
                f"The masks are for images of {self.masks.shape[1:]} pixels, got "
                f"{tuple(images.shape[2:])}."
            )
        n, device = len(images), images.device
        masks = torch.as_tensor(self.masks, device=device)
        first, second = masks[torch.randint(len(masks), (2, n), device=device)]
        chance = torch.rand(2, n, 1, 1, device=device)
        hidden = (first | (second & (chance[0] < self.pairs))) & (chance[1] < self.share)
        values = torch.as_tensor(np.array(self.values), dtype=images.dtype, device=device)
        return torch.where(hidden[:, None], values, images)

    def hardest(self, images, losses):
        """Mask images (n, C, H, W), each by the candidate whose loss is the largest.

        Parameters
        ----------
        images : Tensor (n, C, H, W)
        losses : callable, images (n, C, H, W) -> Tensor (n,)

        Returns
        -------
        masked : Tensor (n, C, H, W)
        """
        best = self(images)
        if self.candidates == 1:
            return best
        worst = losses(best)
        for _ in range(self.candidates - 1):
            masked = self(images)
            loss = losses(masked)
            worse = (loss > worst) | worst.isnan()
            best = torch.where(worse[:, None, None, None], masked, best)
            worst = torch.where(worse, loss, worst)
        return best


def losses_behind(network, criterion, images, target, autocast=False):
    """Loss of each image, by the network in evaluation mode.

    Parameters
    ----------
    network : nn.Module, images (n, C, H, W) -> outputs
        Its mode is left as it was.
    criterion : nn.Module, (outputs, target) -> loss
    images : Tensor (n, C, H, W)
    target : Tensor (n, ...)
    autocast : bool
        Whether to compute in bfloat16.

    Returns
    -------
    losses : Tensor (n,)

    Raises
    ------
    ValueError
        If the criterion has not one loss or more for each image.
    """
    training, target = network.training, target.to(images.device)
    half = torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=autocast)
    network.eval()
    try:
        with torch.no_grad(), half:
            outputs = network(images)
            found = losses_by_image(
                criterion, lambda: criterion(outputs, target), len(images), "candidates of masks"
            )
    finally:
        network.train(training)
    return found.float().mean(1)
