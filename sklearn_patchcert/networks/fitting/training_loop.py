"""What a network does in skorch's loop: batches, steps, losses, callbacks, and Ctrl-C."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sklearn_patchcert._validation import check_autocast
from sklearn_patchcert.networks.fitting.callbacks import (
    EndOfTraining,
    compare_as_given,
    is_ctrl_c,
)
from sklearn_patchcert.networks.fitting.health import check_loss, single_images_explained
from sklearn_patchcert.networks.fitting.weights import WeightedBatches, weighted_loss

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
else:
    _Base = object


class TrainingLoop(_Base):
    """Mixin: the loop of skorch, in which images are disturbed and have weights."""

    _interrupted: KeyboardInterrupt | None = None
    _held_out: str  # name of the score of held-out images in the history
    _between_fits = ("_disturbance", "_raw", "_weight", "_ended", "_part")

    @property
    def loss_curve_(self) -> list[float]:
        """Training loss of each epoch, as of scikit-learn's MLPClassifier."""
        return self._column("train_loss")

    @property
    def validation_scores_(self) -> list[float] | None:
        """Accuracy or R squared of the held-out images after each epoch, None without them."""
        return self._column(self._held_out) or None

    def _column(self, name):
        if not self.initialized_:
            raise AttributeError(f"{type(self).__name__} has no training history before fit.")
        return [float(epoch[name]) for epoch in self.history_ if name in epoch]

    def _initialize_callbacks(self):
        super()._initialize_callbacks()
        compare_as_given(getattr(self, "callbacks_", None) or [])
        return self

    def notify(self, method_name, **cb_kwargs):
        """Call a method of all callbacks; one that raises KeyboardInterrupt ends training.

        Parameters
        ----------
        method_name : str
        **cb_kwargs
            Go to the callbacks.
        """
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as error:
            if is_ctrl_c(error):
                raise
            if method_name not in ("on_train_begin", "on_train_end"):
                raise EndOfTraining from error
            self._ended = True  # before the first epoch, or when all is done

    def fit_loop(self, *args, **kwargs):
        """Train for some epochs, as skorch does, until a callback ends that.

        Parameters
        ----------
        *args, **kwargs
            Go to skorch.

        Returns
        -------
        self
        """
        if self.__dict__.pop("_ended", False):
            return self
        try:
            return super().fit_loop(*args, **kwargs)
        except EndOfTraining:
            return self
        except KeyboardInterrupt as error:  # skorch would return the network as if it were trained
            self._interrupted = error
            raise

    def _snapshot(self):
        """What training changes in place."""
        parts = self.module_, self.optimizer_, self.criterion_
        return len(self.history_), [(part, copy.deepcopy(part.state_dict())) for part in parts]

    def _restore(self, epochs, states):
        del self.history_[epochs:]
        for part, state in states:
            part.load_state_dict(state)

    def get_iterator(self, dataset, training=False):
        """Batches of a dataset; their weights, if they have any, go to the loss.

        Parameters
        ----------
        dataset : torch Dataset
        training : bool

        Returns
        -------
        iterator : iterable of (X, y)
        """
        batches = super().get_iterator(dataset, training=training)
        return WeightedBatches(batches, self._take) if "_weight" in vars(self) else batches

    def _take(self, weight):
        self._weight = weight

    def train_step_single(self, batch, **fit_params):
        """Forward and backward of one batch, in bfloat16 where `autocast` says so.

        Parameters
        ----------
        batch : tuple of Tensor
        **fit_params
            Go to the module's forward.

        Returns
        -------
        step : dict with "loss" and "y_pred"
        """
        kind, batch = torch.device(self.device).type, self._prepared(batch, True)
        half = check_autocast(self.autocast, self.device)
        with (
            torch.autocast(kind, dtype=torch.bfloat16, enabled=half),
            single_images_explained(len(batch[0])),
        ):
            step = super().train_step_single(batch, **fit_params)
        check_loss(self, step["loss"])
        if half and isinstance(step["y_pred"], torch.Tensor):
            step["y_pred"] = step["y_pred"].float()  # NumPy, for callbacks, has no bfloat16
        return step

    def validation_step(self, batch, **fit_params):
        """Loss of one batch that is held out, undisturbed.

        Parameters
        ----------
        batch : tuple of Tensor
        **fit_params
            Go to the module's forward.

        Returns
        -------
        step : dict with "loss" and "y_pred"
        """
        return super().validation_step(self._prepared(batch, False), **fit_params)

    def _prepared(self, batch, training):
        """A batch of images made of tokens, disturbed where options say so and in training."""
        disturbance = vars(self).get("_disturbance")
        if disturbance is None:
            return batch
        images, target = batch
        part: Any = vars(self).get("_part")
        made = disturbance.made(images, target, self.module_, self.criterion_, training, part)
        self._raw = images
        return made, target

    def _images_of(self, images, *, made):
        """Images (n, H, W, C) for `predict` of those that are trained on, (n, C, H, W)."""
        disturbance: Any = vars(self).get("_disturbance")
        if made and disturbance is not None:
            parts = torch.as_tensor(np.ascontiguousarray(images)).split(max(1, self.batch_size))
            found = [disturbance.made(part, part[:, 0, 0, 0], None, None, False) for part in parts]
            images = torch.cat(found).cpu().numpy()
        return np.moveaxis(images, 1, -1)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Loss of a batch; in training, where `certified_radius` says so, of certified leads.

        Parameters
        ----------
        y_pred : Tensor (n, n_outputs)
        y_true : Tensor (n,) or (n, n_outputs)
        X : Tensor (n, C, H, W)
        training : bool

        Returns
        -------
        loss : Tensor
            Weighted by `sample_weight` and `class_weight`.
        """
        if vars(self)["criterion"] is None and isinstance(y_pred, tuple):
            y_pred = y_pred[0]  # as predictions have it; a criterion of the user gets all
        if training and self.certified_radius and "_disturbance" in vars(self):
            y_pred = self._disturbance.leads(self._raw, y_true, self.module_)

        def compute():
            return super(TrainingLoop, self).get_loss(y_pred, y_true, X=X, training=training)

        weight: Any = vars(self).get("_weight")
        if weight is None:
            return compute()
        return weighted_loss(self.criterion_, compute, y_true, weight)
