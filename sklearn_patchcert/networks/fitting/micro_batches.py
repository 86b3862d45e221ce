"""Batches whose activations exceed a budget: computed in parts, whose gradients are added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from skorch.dataset import unpack_data

from sklearn_patchcert._validation import check_autocast, isolated_seed
from sklearn_patchcert.networks.fitting.activations import LEAST, MEBIBYTE, images_within
from sklearn_patchcert.networks.fitting.loops import count_parts
from sklearn_patchcert.networks.fitting.weights import shares_of

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
else:
    _Base = object

_AUTO = 512  # MiB: an ordinary ResNet-18 at 224 x 224 then trains in less than 2 GiB
_SMALL = 64 * 64  # pixels of pictures that are not split unless that is asked for


class Part(NamedTuple):
    """A part of a batch of n images: which of them, and how much its loss counts."""

    start: int
    n: int
    share: float


class MicroBatches(_Base):
    """Mixin: a batch that would take too much memory is computed in parts."""

    # Declared for type checkers: parameters of the estimators, and what fit makes.
    working_memory: Any
    micro_batch_size: Any
    autocast: Any
    image_shape_: tuple[int, int, int]
    micro_batch_size_: int | None = None
    _frozen: Any

    def _settle_micro_batch(self, images, fit_params):
        """Find out how many images are computed at once; `images` (n, C, H, W) are some of them."""
        self.micro_batch_size_ = self._images_at_once(images, fit_params)

    def _images_at_once(self, images, fit_params):
        limit, place = self.working_memory, torch.device(self.device)
        if self.micro_batch_size is not None:
            return int(self.micro_batch_size)
        height, width, _ = self.image_shape_
        plenty = place.type != "cpu" or height * width <= _SMALL
        if limit is None or (limit == "auto" and plenty):
            return None
        module: Any = getattr(self.module_, "_orig_mod", self.module_)  # compiled for other sizes
        half = check_autocast(self.autocast, place)
        few = torch.as_tensor(images[:4]).to(place, copy=True)
        budget = float(_AUTO if limit == "auto" else limit) * MEBIBYTE
        with (
            isolated_seed(0, place),
            torch.autocast(place.type, dtype=torch.bfloat16, enabled=half),
        ):
            options = {"frozen": self._frozen, **fit_params}
            count = images_within(module, few, budget, max(1, self.batch_size), **options)
        if count < LEAST and limit != "auto":
            raise ValueError(
                f"working_memory={limit!r} MiB is too little for the activations of {LEAST} images "
                f"of shape {self.image_shape_}: allow more, or set micro_batch_size."
            )
        return max(LEAST, count)

    def _parts_of(self, n):
        return 1 if self.micro_batch_size_ is None else count_parts(n, self.micro_batch_size_)

    def train_step_single(self, batch, **fit_params):
        """Forward and backward of one batch, in parts if it is too large for the memory.

        Parameters
        ----------
        batch : tuple of Tensor
        **fit_params
            Go to the module's forward.

        Returns
        -------
        step : dict with "loss" and "y_pred"
        """
        images, target = unpack_data(batch)
        n = len(images) if isinstance(images, torch.Tensor) else 1
        count = self._parts_of(n)
        shares: Any = None
        if count > 1:
            weight: Any = vars(self).get("_weight")
            targets = target.tensor_split(count)
            shares = shares_of(self.criterion_, targets, weight is not None)
        if shares is None:
            if count > 1 and (self.micro_batch_size is not None or self.working_memory != "auto"):
                raise ValueError(
                    "working_memory and micro_batch_size split batches, for which the criterion "
                    f"must have a `reduction`, as the losses of torch.nn have. "
                    f"{type(self.criterion_).__name__} has none: set both to None, or take another "
                    "criterion."
                )
            return super().train_step_single(batch, **fit_params)
        steps: list = []
        start = 0
        try:
            for some, wanted, share in zip(
                images.tensor_split(count), targets, shares, strict=True
            ):
                self._part = Part(start, n, share)
                if weight is not None:
                    self._weight = weight[start : start + len(some)]
                start += len(some)
                step = super().train_step_single((some, wanted), **fit_params)
                steps.append((step["loss"].detach(), _detached(step["y_pred"])))
        finally:
            self.__dict__.pop("_part", None)
            if weight is not None:
                self._weight = weight
        losses, outputs = zip(*steps, strict=True)
        return {"loss": torch.stack(losses).sum(), "y_pred": _joined(outputs)}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Loss of a batch; of a part of a batch what it adds to that of the whole.

        Parameters
        ----------
        y_pred : Tensor (n, n_outputs)
        y_true : Tensor (n,) or (n, n_outputs)
        X : Tensor (n, C, H, W)
        training : bool

        Returns
        -------
        loss : Tensor
        """
        part: Any = vars(self).get("_part")
        if part is not None and part.share == 0:  # the mean over none of its images would be NaN
            return 0.0 * (y_pred[0] if isinstance(y_pred, tuple) else y_pred).sum()
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss if part is None else part.share * loss

    def evaluation_step(self, batch, training=False):
        """Outputs for a batch, as `forward` and predictions ask for them.

        Parameters
        ----------
        batch : tuple of Tensor
        training : bool

        Returns
        -------
        outputs : Tensor or tuple of Tensor (n, ...)
        """
        return _with_rows(super().evaluation_step(batch, training=training))

    def infer(self, x, **fit_params):
        """Outputs of the module, without gradients in parts if there are too many images.

        Parameters
        ----------
        x : Tensor (n, C, H, W)
        **fit_params
            Go to the module's forward.

        Returns
        -------
        outputs : Tensor or tuple of Tensor
        """
        count = self._parts_of(len(x)) if isinstance(x, torch.Tensor) else 1
        if count == 1 or torch.is_grad_enabled():
            return super().infer(x, **fit_params)
        return _joined([super(MicroBatches, self).infer(part, **fit_params)
                        for part in x.tensor_split(count)])  # fmt: skip


def _detached(outputs):
    if isinstance(outputs, tuple):
        return tuple(map(_detached, outputs))
    return outputs.detach() if isinstance(outputs, torch.Tensor) else outputs


def _joined(parts):
    """Outputs of the parts of a batch, as those of the batch; what has no rows is of the first."""
    if isinstance(parts[0], tuple):
        return tuple(map(_joined, zip(*parts, strict=True)))
    return torch.cat(list(parts)) if _has_rows(parts[0]) else parts[0]


def _has_rows(output):
    return isinstance(output, torch.Tensor) and output.ndim > 0


def _with_rows(outputs):
    """The outputs of a module without what is not of the images, as a loss of its own."""
    if not isinstance(outputs, tuple) or all(map(_has_rows, outputs)):
        return outputs
    return (outputs[0], *filter(_has_rows, outputs[1:]))
