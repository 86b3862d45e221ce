"""Training batches attacked in the space of pixels, before they become tokens."""

from __future__ import annotations

import torch

from sklearn_patchcert.attacks.gradients import pgd
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.voronoi import surrogates


def attacked_images(
    images, target, network, *, radius, steps=5, generator=None, autocast=False, **code
):
    """Attack images by projected gradient descent (Madry et al., ICLR 2018).

    The loss is the cross-entropy; its gradient passes the tokens as if every patch were its own
    (straight through).  What comes back are images, whose tokens are still to be found; they are
    not clipped to a range.

    Parameters
    ----------
    images : Tensor of float32 (n, C, H, W)
    target : Tensor of int64 (n,)
    network : nn.Module, images (n, C, H, W) made of tokens -> logits (n, n_classes)
        Asked in evaluation mode; its modes and gradients are left as they were.
    radius : float
        L2 norm, over the whole image, in the units of the images.
    steps : int
        Of length 2.5 radius / steps, from a random start.
    generator : torch.Generator or None
        Draws the start; None: torch's global one.
    autocast : bool
        Whether to compute in bfloat16.
    **code
        `vocabulary` (n_tokens, dim) or (C, n_tokens, dim), ndarray, `patch_size` and
        `per_channel`, as of :class:`TokenizedNetwork`; without them the network sees the images.

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.adversarial_training import attacked_images
    >>> images, target = torch.zeros(1, 1, 1, 2), torch.tensor([0])
    >>> moved = attacked_images(images, target, torch.nn.Flatten(), radius=1.0)
    >>> bool(moved[..., 0] < moved[..., 1]), bool(moved.norm() <= 1 + 1e-6)  # towards pixel 1
    (True, True)
    """
    kind = TokenizedNetwork if images.device.type == "cpu" else _OnDevice
    model = kind(torch.nn.Identity(), **code).to(images.device)
    model.network = network  # stays where it is
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=autocast):
            options = {"eps": radius, "steps": steps, "generator": generator}
            return pgd(model, images, target, **options).detach()
    finally:
        for module, mode in modes:
            module.training = mode


class _OnDevice(TokenizedNetwork):
    """Finds tokens where the images are; patches as good as on a wall may get either."""

    def ids(self, scaled):
        images = scaled.detach().float()
        patches = surrogates.cut(images, self.patch_size, per_channel=self.per_channel)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 takes other tokens
            if self.tokens.ndim == 2:
                return surrogates.nearest(patches, self.tokens)
            parts = [surrogates.nearest(patches[..., c, :], t) for c, t in enumerate(self.tokens)]
        return torch.stack(parts, dim=3)
