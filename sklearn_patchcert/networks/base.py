"""What the networks share as scikit-learn estimators: skorch, but quiet, seeded and validated."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import EpochScoring, EpochTimer, PassthroughScoring
from skorch.dataset import Dataset

from sklearn_patchcert._layouts import of_torch
from sklearn_patchcert._state import VersionedState, all_or_nothing
from sklearn_patchcert._validation import (
    check_device,
    check_images,
    isolated_seed,
    random_seed,
)
from sklearn_patchcert.networks.fitting.callbacks import Log, held_out_score
from sklearn_patchcert.networks.fitting.disturbance import Disturbance, check_options
from sklearn_patchcert.networks.fitting.health import check_outputs, check_weights
from sklearn_patchcert.networks.fitting.loops import (
    BatchIterator,
    EpochBar,
    Schedule,
    refuse_streams,
)
from sklearn_patchcert.networks.fitting.micro_batches import MicroBatches
from sklearn_patchcert.networks.fitting.source import channels_first, shape_of_rows
from sklearn_patchcert.networks.fitting.training_loop import TrainingLoop
from sklearn_patchcert.networks.fitting.weights import check_criterion, check_sample_weight
from sklearn_patchcert.networks.modules import PatchConvNet
from sklearn_patchcert.networks.options import check_network, check_sizes
from sklearn_patchcert.networks.parameters import GivenParameters
from sklearn_patchcert.networks.transfer.pretrained import GivenModule
from sklearn_patchcert.torch_globals import plain_torch

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
else:
    _Base = object


class PatchNet(MicroBatches, TrainingLoop, GivenModule, GivenParameters, VersionedState, _Base):
    """Base of the classifier and the regressor: everything except the target."""

    # skorch sets these in its constructor, where scikit-learn allows parameters only.
    history_: Any = None
    initialized_ = False
    virtual_params_: dict = {}

    _made_by_fit: tuple[str, ...] = (
        "image_shape_", "n_outputs_", "channel_mean_", "channel_std_", "n_features_in_",
    )  # fmt: skip

    def __init__(
        self,
        module=PatchConvNet,
        *,
        trainable="all",
        head=None,
        classes=None,
        criterion=None,
        optimizer=torch.optim.AdamW,
        lr=0.002,
        lr_schedule="cosine",
        max_epochs=20,
        batch_size=128,
        image_shape=None,
        autocast=False,
        working_memory="auto",
        micro_batch_size=None,
        augment=None,
        noise_std=0.0,
        flip_radius=0.0,
        flip_share=0.5,
        flip_kind="adversarial",
        flip_steps=1,
        adversarial_radius=0.0,
        adversarial_steps=5,
        certified_radius=0.0,
        mask_training=None,
        device="auto",
        class_weight=None,
        random_state=None,
        train_split=None,
        callbacks=None,
        predict_nonlinearity="auto",
        warm_start=False,
        verbose=0,
        iterator_train=BatchIterator,
        iterator_valid=BatchIterator,
        dataset=Dataset,
        compile=False,
        use_caching="auto",
        torch_load_kwargs=None,
        **kwargs,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            device=device,
            train_split=train_split,
            callbacks=callbacks,
            predict_nonlinearity=predict_nonlinearity,
            warm_start=warm_start,
            verbose=verbose,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            dataset=dataset,
            compile=compile,
            use_caching=use_caching,
            torch_load_kwargs=torch_load_kwargs,
            **kwargs,
        )
        self.lr_schedule = lr_schedule
        self.image_shape = image_shape
        self.autocast = autocast
        self.working_memory, self.micro_batch_size = working_memory, micro_batch_size
        self.augment = augment
        self.noise_std = noise_std
        self.flip_radius = flip_radius
        self.flip_share = flip_share
        self.flip_kind = flip_kind
        self.flip_steps = flip_steps
        self.adversarial_radius = adversarial_radius
        self.adversarial_steps = adversarial_steps
        self.certified_radius, self.mask_training = certified_radius, mask_training
        self.class_weight = class_weight
        self.random_state = random_state
        for name in ("history_", "initialized_", "virtual_params_"):
            self.__dict__.pop(name, None)
        self.trainable, self.head, self.classes = trainable, head, classes

    def _get_param_names(self):
        return [name for name in super()._get_param_names() if not name.startswith("_")]

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
            (self._held_out, EpochScoring(held_out_score, False, name=self._held_out)),
            ("lr_schedule", Schedule()),
            ("progress_bar", EpochBar()),
            ("print_log", Log()),
        ]

    def get_params_for(self, prefix):
        """Parameters of a part; the module is told sizes and statistics of the data.

        Parameters
        ----------
        prefix : str

        Returns
        -------
        kwargs : dict
            What the user set as ``module__...`` wins.
        """
        kwargs = super().get_params_for(prefix)
        if prefix == "iterator_train" and self.iterator_train is BatchIterator:
            kwargs.setdefault("shuffle", True)
        if prefix == "module" and hasattr(self, "image_shape_"):
            known = {
                "image_shape": self.image_shape_,
                "n_outputs": self.n_outputs_,
                "mean": self.channel_mean_,
                "std": self.channel_std_,
            }
            if hasattr(self, "patch_size_"):
                known["patch_size"] = self.patch_size_
            made = isinstance(self.module, torch.nn.Module)
            takes = {} if made else inspect.signature(self.module).parameters
            kwargs = {**{k: v for k, v in known.items() if k in takes}, **kwargs}
        return kwargs

    @all_or_nothing
    def fit(self, X, y=None, sample_weight=None, *, source=None, **fit_params) -> Any:
        """Train the network from scratch, or continue if `warm_start`.

        Ctrl-C raises KeyboardInterrupt and leaves the network as it was before; what earlier calls
        of :meth:`partial_fit` have trained stays.  A callback that raises KeyboardInterrupt, as
        skorch's EarlyStopping does, ends the training, and `fit` returns.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,), for several labels an indicator matrix (n, n_labels), for regression
            (n,) or (n, n_outputs)
        sample_weight : array-like (n,) or None, default=None
            Weights of the images in the loss, in units of their mean.  An image of weight 0 is as
            good as absent.  An image of weight 2 counts, on average over the batches, as if it were
            there twice.
        source : pair of a fitted PatchVocabulary and images, or None
            Where X comes from, ``vocabulary.transform(images)``, so that training images can be
            disturbed before they become tokens.  The certified pipelines pass it.  None: X are
            plain images, which `augment`, `noise_std` and `adversarial_radius` disturb as they
            are.
        **fit_params
            Go to the module's forward; not with options that ask it for gradients or losses
            before.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an option is unknown or out of range.  If the module has another number of outputs
            than y has classes or targets.  If the training loss, a weight or an output is not
            finite: the error names the epoch and the options to lower.  If a step changes the
            images between the vocabulary of `source` and the network.  If weights are given and the
            criterion has no loss for each image.
        TypeError
            If X is a DataLoader, a Dataset or another stream of batches.
        """
        start = not (self.warm_start and self.initialized_)
        with plain_torch(training=True):
            return self._train(X, y, start, fit_params, None, sample_weight, source)

    @all_or_nothing
    def partial_fit(
        self, X, y=None, classes=None, sample_weight=None, *, source=None, **fit_params
    ) -> Any:
        """Train for `max_epochs` more passes over a batch of images.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,)
        classes : array-like or None
            All classes; needed in the first call of a classifier where y has not all of them.
        sample_weight : array-like (n,) or None, default=None
            As in :meth:`fit`, in units of their mean in this call.
        source : pair of a fitted PatchVocabulary and images, or None
            As in :meth:`fit`.
        **fit_params
            Go to the module's forward; not with options that ask it for gradients or losses
            before.

        Returns
        -------
        self
        """
        start = not self.initialized_
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} is for fit, since partial_fit sees only "
                "some of the images: pass a dict, for example what compute_class_weight of "
                "scikit-learn finds for all labels."
            )
        with plain_torch(training=True):
            return self._train(X, y, start, fit_params, classes, sample_weight, source)

    def _train(self, X, y, start, fit_params, classes, sample_weight, source):
        refuse_streams(self, X)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        check_network(self)
        device = check_device(self.device)
        if start:
            self.__dict__.pop("patch_size_", None)
        untrained = start and self.trainable == "none"
        expected = vars(self).get("input_range_") if untrained else None
        images = check_images(
            self, X, reset=start, image_shape=shape_of_rows(self, X, source),
            outright=source is not None, learning=not start,
        )  # fmt: skip
        if expected is not None:
            self._judge_by(expected, images)
        y, sample_weight = of_torch(y), of_torch(sample_weight)
        check_consistent_length(images, y)
        weight, kept = check_sample_weight(sample_weight, images)
        like = images
        if kept is not None:
            images, y = images[kept], _safe_indexing(y, kept)
        if start:
            self.channel_mean_ = images.mean((0, 1, 2), dtype=np.float64)
            spread = images.std((0, 1, 2), dtype=np.float64)
            self.channel_std_ = np.where(spread > 0, spread, 1.0)
            if self.channel_std_.min() < np.finfo(np.float32).tiny:
                raise ValueError(
                    "X varies by less than float32 holds, in which networks compute: rescale it."
                )
        if source is not None:
            self.patch_size_ = next(iter(source)).patch_size_
        some = channels_first(images[:32])
        options = check_options(self, fit_params)
        if options is not None:
            self._disturbance = Disturbance(options, source, like, device, kept)
            images = self._disturbance.images
        target, inputs = self._encode_target(y, start, classes), channels_first(images)
        weight = self._image_weights(weight, target)
        if weight is not None:
            self._weight = None  # of the batch
            inputs = {"images": inputs, "weight": np.float32(weight / weight.mean())}
        seed = random_seed(self.random_state)
        with isolated_seed(seed, device), contextlib.ExitStack() as undo:
            if start:
                self.__dict__.pop("history_", None)  # a new one: the old one is kept if this fails
                self.initialize()
                check_outputs(self, some, fit_params)
            else:
                undo.callback(self._restore, *self._snapshot())
                self._catch_up()
            self._settle_micro_batch(some, fit_params)
            if weight is not None:
                check_criterion(self.criterion_)
            super().partial_fit(inputs, target, **fit_params)
            if self._interrupted is not None:
                raise self._interrupted
            check_weights(self, some, fit_params)
            undo.pop_all()
        for name in self._between_fits:
            self.__dict__.pop(name, None)
        return self

    def _image_weights(self, weight, target):
        """Weights of the images, with what the options add to them."""
        if self.class_weight is not None:
            raise ValueError(
                f"class_weight is for classifiers; {type(self).__name__} must have None."
            )
        return weight

    def check_data(self, X, y=None):
        """Do nothing: `fit` has checked before skorch sees the data.

        Parameters
        ----------
        X, y : ignored
        """

    def _outputs(self, X, compute=None):
        """What skorch computes of images, by default its probabilities."""
        check_is_fitted(self)
        check_device(self.device)
        check_sizes(self)
        images = check_images(self, X, reset=False, image_shape=self.image_shape)
        with plain_torch():
            outputs = (compute or super().predict_proba)(channels_first(images))
            first = torch.as_tensor(outputs[0] if isinstance(outputs, tuple) else outputs)
            finite = bool(first.isfinite().all())
        if not finite:
            raise ValueError(
                "The outputs of the network are not finite: its weights or the values of X are too "
                "large for float32. Look at the range of X, or fit the network again."
            )
        return outputs
