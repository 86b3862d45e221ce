"""Functions that change training images: called, and their answers checked."""

from __future__ import annotations

import torch


def augmented(images, augment):
    """Images as `augment` changes them.

    Transforms of torchvision draw once in a call, so each image has a call of its own.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    augment : callable, images (n, C, H, W) -> images, or a transform of torchvision

    Returns
    -------
    images : Tensor (n, C, H, W)

    Raises
    ------
    ValueError
        If they come back with another shape, not as floats, or not finite.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.augmentation import augmented
    >>> augmented(torch.zeros(2, 1, 8, 8), lambda images: images[..., 1:])
    Traceback (most recent call last):
    ...
    ValueError: augment changed images of shape (2, 1, 8, 8) to (2, 1, 8, 7): ...
    """
    if _is_of_torchvision(augment):
        made = torch.stack([_checked(augment(image), image) for image in images])
    else:
        made = _checked(augment(images), images)
    if not made.isfinite().all():
        raise ValueError("augment returned images with NaN or infinite values.")
    return made


def _is_of_torchvision(augment):
    parts = [augment, *(augment.modules() if isinstance(augment, torch.nn.Module) else ())]
    kinds = [kind for part in parts for kind in type(part).__mro__]
    return any(kind.__module__.startswith("torchvision.transforms") for kind in kinds)


def _checked(made, before):
    if not isinstance(made, torch.Tensor):
        raise ValueError(f"augment must return a Tensor, got {type(made).__name__}.")
    if made.shape != before.shape:
        raise ValueError(
            f"augment changed images of shape {tuple(before.shape)} to {tuple(made.shape)}: crop "
            "or resize to the size that the images have, and resize X before fit for another size."
        )
    if not made.is_floating_point():
        raise ValueError(f"augment must return floats as it is given, got {made.dtype}.")
    return made.to(before.dtype)
