"""What a network must keep to while it is trained: its outputs, its loss and its weights."""

from __future__ import annotations

import contextlib
import math

import torch
from sklearn.base import is_classifier

from sklearn_patchcert._validation import isolated_seed
from sklearn_patchcert.networks.transfer.heads import (
    described,
    evaluating,
    first_of,
    last_layer,
    sizes_explained,
)

_FEW = 32  # images whose outputs are looked at


def check_outputs(net, images, fit_params):
    """Refuse a network that does not give one row of outputs for each image.

    Parameters
    ----------
    net : network with its parts made
    images : ndarray of float32 (n, C, H, W)
    fit_params : dict
        Goes to the module's forward.

    Raises
    ------
    ValueError
        If the number of outputs is not that of the classes or targets.
    """
    shape, n = _outputs_of(net, images[:2], fit_params).shape, len(images[:2])
    wanted = net.n_outputs_
    what = "target" if not is_classifier(net) else "class"
    if what == "class" and len(net.classes_) == 1:
        wanted = 1 if shape == (n, 1) else wanted  # the second output would be nobody's
        count = "a single class"
    else:
        plural = {"class": "classes", "target": "targets"}[what]
        count = f"{wanted} {plural if wanted > 1 else what}"
    if tuple(shape) == (n, wanted):
        return
    if len(shape) == 2 and shape[0] == n:
        found = last_layer(net.module_, shape[1])
        layer = f": its last layer, {described(*found)}, has {shape[1]} outputs" if found else ""
        if net.classes is not None:
            raise ValueError(
                f"The module has {shape[1]} outputs, but the option classes has {count}{layer}. "
                "Name all outputs in their order"
                + (', or pass head="replace" for a new last layer.' if found else ".")
            )
        raise ValueError(
            f"The module has {shape[1]} outputs, but y has {count}{layer}. Make a module with "
            f"{wanted} outputs, for example by an argument `n_outputs`, which is given from the "
            "data" + (', or pass head="replace" for a new last layer.' if found else ".")
        )
    raise ValueError(
        f"The module must take n images to outputs of shape (n, {wanted}), since y has {count}; "
        f"it took {n} images to the shape {tuple(shape)}."
    )


def check_loss(net, loss):
    """Refuse to go on with a training loss that is not finite.

    Raises
    ------
    ValueError
        If the loss is NaN or infinite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        stepped = len(net.history) > 1 or len(net.history[-1]["batches"]) > 1
        raise ValueError(f"The training loss is {value} in {_place(net)}. {_advice(net, stepped)}")


def check_weights(net, images, fit_params):
    """Refuse a network that training has left with weights or outputs that are not finite.

    Parameters
    ----------
    net : network
    images : ndarray of float32 (n, C, H, W)
        Of the training.
    fit_params : dict
        Goes to the module's forward.

    Raises
    ------
    ValueError
        If a weight is not finite, or an output, or a probability.
    """
    for name, value in _trained(net.module_):
        if not value.isfinite().all():
            raise ValueError(
                f"{name} of the module is not finite after {_place(net)}. {_advice(net)}"
            )
    few = min(_FEW, net.micro_batch_size_ or _FEW)
    outputs = _outputs_of(net, images[:few], fit_params)
    seen = outputs.softmax(1) if is_classifier(net) else outputs  # -inf may rule out a class
    if not seen.isfinite().all():
        raise ValueError(
            f"The outputs of the module are not finite after {_place(net)}. {_advice(net)}"
        )


@contextlib.contextmanager
def single_images_explained(n):
    """Say what to do if batch normalization meets a batch of a single image."""
    try:
        yield
    except ValueError as error:
        if n != 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "The module normalizes over the images of a batch (BatchNorm), but a training batch "
            "has only one image: set batch_size to 2 or more, fit on 2 images or more, and keep "
            "the default iterator_train, or drop the last batch of another one."
        ) from error


def _outputs_of(net, images, fit_params):
    """Outputs of a few images, in evaluation mode; modes and generators stay as they are."""
    module = getattr(net.module_, "_orig_mod", net.module_)  # compiled for other sizes
    with evaluating(module), torch.no_grad(), isolated_seed(0, net.device):
        place = next((p.device for p in module.parameters()), net.device)  # also while it is made
        images = torch.as_tensor(images.copy()).to(place)
        with sizes_explained(module, images):
            outputs = module(images, **fit_params)
    several = getattr(net.mask_training, "candidates", 1) > 1
    own = vars(net)["criterion"] is not None  # of the user, which is given all of the outputs
    alone = net.adversarial_radius or (not own and (net.flip_radius or several))
    if isinstance(outputs, tuple) and alone:
        raise ValueError(
            f"{type(module).__name__} returns a tuple, but flip_radius, adversarial_radius and "
            "mask_training with candidates need its outputs alone: wrap it in a module that "
            "returns these."
        )
    return first_of(module, outputs).detach().float()


def _trained(module):
    """What training changes in a module, by name."""
    yield from module.named_parameters()
    for at, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._NormBase):
            yield from (
                (f"{at}.{name}", value) for name, value in part.named_buffers(recurse=False)
            )


def _place(net):
    if not net.history:
        return "epoch 0"
    last = net.history[-1]
    return f"epoch {last['epoch']}, batch {len(last['batches'])}"


def _advice(net, stepped=True):
    """The options that most likely made training diverge, with their values.

    `stepped` says whether an optimizer has changed the weights before.
    """
    height, width, _ = net.image_shape_
    size = math.sqrt(height * width * float((net.channel_std_**2).sum()))  # of an image's contrast
    disturbing = ("adversarial_radius", "noise_std", "flip_radius", "certified_radius")
    large = [f"{name}={getattr(net, name)!r}" for name in disturbing if getattr(net, name) > size]
    if large:
        return (
            f"Lower {' and '.join(large)}: the images of the training data differ from their mean "
            f"by an L2 norm of about {size:.3g}."
        )
    set_ = [f"{name}={getattr(net, name)!r}" for name in disturbing if getattr(net, name)]
    if not stepped:
        criterion = getattr(net.criterion, "__name__", repr(net.criterion))
        lower = f", or lower {', or '.join(set_)}" if set_ else ""
        return (
            f"No step has been taken yet: look whether criterion={criterion} fits what the module "
            f"returns{lower}."
        )
    return " ".join(["Lower", ", or ".join([f"lr={net.lr!r}", *set_]) + "."])
