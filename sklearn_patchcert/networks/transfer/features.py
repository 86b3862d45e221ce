"""TorchFeatures: the transformer from images to the features of a frozen network."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn
from tqdm.auto import tqdm

from sklearn_patchcert._state import VersionedState, all_or_nothing
from sklearn_patchcert._validation import (
    Integral,
    Interval,
    StrOptions,
    _fit_context,
    check_device,
    check_images,
    isolated_seed,
)
from sklearn_patchcert.networks.fitting.source import channels_first
from sklearn_patchcert.networks.transfer.heads import layer_output, unchanging_copy
from sklearn_patchcert.torch_globals import plain_torch

_MODULES = "module", "module_"  # in the state


class TorchFeatures(
    VersionedState, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Compute the features that a frozen torch network has of images.

    The network is not trained: `fit` only looks at the shape of the images.  Any scikit-learn
    estimator may come after.  In a Pipeline with `memory`, a search computes the features of the
    same images once.

    Parameters
    ----------
    module : torch.nn.Module, or callable that makes one
        Takes images (n, C, H, W).  An instance is copied and never changed.
    layer : str or None, default=None
        Name of the part of the module whose output are the features, such as "avgpool"; None: the
        output of the module.  ``dict(module.named_modules())`` has the names.
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of images that come as rows; None as in :class:`PatchVocabulary`.
    batch_size : int, default=64
        Images at once.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one, else the CPU.
    random_state : int, default=0
        Seeds the weights, if `module` is a callable that draws some.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : torch.nn.Module
        The copy, in evaluation mode.
    image_shape_ : tuple (H, W, C)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.
    input_dtype_ : str
        Name of their dtype.
    n_features_in_ : int

    See Also
    --------
    networks.Preprocessed : Resize and normalize images inside of a module.
    PatchNetClassifier.from_pretrained : A classifier of a module with its own last layer.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from torch import nn
    >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, TorchFeatures
    >>> X, y = load_digits().images[:500] / 16, load_digits().target[:500]
    >>> backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> vocabulary = PatchVocabulary(16, 2, strategy="kmeans", random_state=0)
    >>> model = CertifiedPatchClassifier([
    ...     ("vocab", vocabulary), ("features", TorchFeatures(backbone)),
    ...     ("clf", LogisticRegression(max_iter=1000)),
    ... ]).fit(X, y)
    >>> model[:-1].transform(X).shape, model.certify(X[:3]).shape
    ((500, 72), (3, 4, 4))
    """

    _parameter_constraints: dict = {
        "module": [nn.Module, callable],
        "layer": [str, None],
        "image_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [StrOptions({"auto"}), str, torch.device],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module,
        *,
        layer=None,
        image_shape=None,
        batch_size=64,
        device="auto",
        random_state=0,
        verbose=False,
    ) -> None:
        self.module = module
        self.layer = layer
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> TorchFeatures:
        """Copy the module and look at the shape of the images.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : ignored

        Returns
        -------
        self : TorchFeatures

        Raises
        ------
        ValueError
            If the module has no part called `layer`, or X does not fit.
        """
        images = check_images(self, X, reset=True, image_shape=self.image_shape)
        with isolated_seed(self.random_state), plain_torch():
            made = self.module if isinstance(self.module, nn.Module) else self.module()
            self.module_ = unchanging_copy(made)
        self._n_features_out = self._computed(images[:1], quiet=True).shape[1]
        return self

    def transform(self, X) -> NDArray[Any]:
        """Compute the features.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        features : ndarray of float32 (n, n_features_out)
            The outputs of the layer, flattened.

        Raises
        ------
        ValueError
            If features are not finite, or X does not fit.
        """
        check_is_fitted(self)
        features = self._computed(check_images(self, X, reset=False, image_shape=self.image_shape))
        if not np.isfinite(features).all():
            raise ValueError(
                "The features are not finite: the weights of the module or the values of X are too "
                "large for float32. Look at the range of X."
            )
        return features

    def _computed(self, images, quiet=False):
        device, found = check_device(self.device), []
        hidden = quiet or not self.verbose
        with plain_torch(), tqdm(
            desc=type(self).__name__, total=len(images), unit="image", disable=hidden
        ) as bar:  # fmt: skip
            module = self.module_.to(device)
            for part in torch.as_tensor(channels_first(images)).split(self.batch_size):
                outputs = layer_output(module, part.to(device, copy=True), self.layer)
                if len(outputs) != len(part):
                    raise ValueError(
                        f"The features of {len(part)} images have the shape "
                        f"{tuple(outputs.shape)}: there must be a row for each image."
                    )
                found.append(outputs.flatten(1).float().cpu().numpy())
                bar.update(len(part))
        return np.concatenate(found).reshape(len(images), -1)

    def __sklearn_is_fitted__(self):
        return "module_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self):
        # As bytes: pickles of tensors have addresses inside, by which `memory` would never find
        # the features of an equal module.
        state = super().__getstate__()
        packed = {name: _packed(state[name]) for name in _MODULES if _is_module(state.get(name))}
        return {**state, **packed}

    def __setstate__(self, state):
        opened = {name: _opened(state[name]) for name in _MODULES if _is_bytes(state.get(name))}
        super().__setstate__({**state, **opened})


def _packed(module):
    file = io.BytesIO()
    torch.save(unchanging_copy(module, as_it_is=True).to("cpu"), file)
    return file.getvalue()


def _opened(data):
    # A pickle inside a pickle: whoever reads one trusts its writer.
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def _is_module(value):
    return isinstance(value, nn.Module)


def _is_bytes(value):
    return isinstance(value, bytes)
