"""Networks that classify and regress, as scikit-learn estimators on top of skorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier, NeuralNetRegressor

from sklearn_patchcert._validation import check_images
from sklearn_patchcert.networks.base import PatchNet
from sklearn_patchcert.networks.fitting.source import channels_first
from sklearn_patchcert.networks.fitting.targets import ClassTargets, NumberTargets
from sklearn_patchcert.networks.transfer.pretrained import ordered, outputs_of_pretrained
from sklearn_patchcert.torch_globals import plain_torch


class PatchNetClassifier(ClassTargets, PatchNet, NeuralNetClassifier):
    """A convolutional network that classifies images, as a scikit-learn estimator.

    A skorch NeuralNetClassifier that follows scikit-learn's conventions.  It validates and converts
    its input, encodes labels of any kind, takes its sizes from the data, prints nothing by default,
    and gives the same result for the same `random_state` without touching torch's global generator.

    Parameters
    ----------
    module : type of torch.nn.Module, callable that makes one, or instance, default=PatchConvNet
        Takes images (n, C, H, W) to logits (n, n_classes), also for two classes.  Where its
        constructor has arguments called `image_shape`, `n_outputs`, `mean` or `std`, they are given
        from the data.  An instance keeps its weights: every fit starts from a copy of it, and it
        is never changed.
    trainable : {"all", "head", "none"} or list of str, default="all"
        Which parameters are trained.  "all": all that take gradients.  "head": those of the last
        layer.  "none": no parameter, and no epochs.  A list has patterns of names, such as
        ``["layer4.*", "fc.*"]``.  Frozen parameters are not in the optimizer.  Parts that have
        parameters, but none that is trained, stay in evaluation mode, so that their batch
        normalization keeps its statistics and dropout inside them is off.
    head : {"replace"} or None, default=None
        "replace": a new last layer with as many outputs as there are classes.  The old one is the
        last Linear layer or 1x1 convolution with as many outputs as the module.
    classes : array-like (n_classes,) or None, default=None
        Labels of the outputs of a module that is trained already, in the order of its outputs.
        None: the labels in y, sorted.
    criterion : type of torch.nn.Module or None, default=None
        None: CrossEntropyLoss, or BCEWithLogitsLoss where images have several labels.
    optimizer : type of torch.optim.Optimizer, default=AdamW
    lr : float, default=0.002
        Learning rate at the start of a fit.
    lr_schedule : {"cosine", "triangle", None}, default="cosine"
        How it changes within each fit: along a half cosine to zero; rising to `lr` and falling in
        straight lines, which suits large ones (Smith and Topin, arXiv:1708.07120); or not at all.
        An LRScheduler of skorch among the callbacks sets it instead.
    max_epochs : int, default=20
    batch_size : int, default=128
        Images of a training step at most; -1: all.  The default iterator makes batches of nearly
        equal size.  It leaves no image alone, which batch normalization could not train on: with
        2 and an odd number of images, one batch has 3.
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of images that come as rows; None as in :class:`PatchVocabulary`.
    autocast : bool or "auto", default=False
        Whether to train in bfloat16 where torch does so; predictions stay in float32.  "auto":
        where the device has instructions for it, without which it is much slower.
    working_memory : float, "auto" or None, default="auto"
        Memory in MiB for the activations of a network, which are measured when a fit begins.  A
        batch that would take more is split into micro-batches, whose gradients are added up, so
        that the step is that of the whole batch.  Only batch normalization sees the difference,
        since its statistics are those of a micro-batch, and random numbers are drawn for each.
        Callbacks see whole batches.  Predictions are computed in micro-batches, too.  "auto": 512
        on the CPU for pictures of more than 64 x 64 pixels; otherwise, and with None, batches stay
        whole.  The images, the weights and the libraries take memory besides.
    micro_batch_size : int or None, default=None
        Images that are computed at once, instead of what `working_memory` finds.  As with
        `batch_size`, no image is left alone.
    augment : callable or None, default=None
        Images (n, C, H, W) to images of the same shape, before they become tokens, such as
        ``partial(flip_training.random_crop, pixels=4, mirror=True)``.  Transforms of torchvision
        are called for each image, since they draw once in a call; those of colors take values to be
        in [0, 1].
    noise_std : float, default=0.0
        Largest standard deviation of Gaussian noise that comes before the tokens, in the units of
        what reaches the vocabulary; such noise draws flips of tokens by their price.
    flip_radius : float, default=0.0
        Train on tokens flipped within this L2 budget of the whole image, in the same units.
    flip_share : float, default=0.5
        Part of each batch that has its tokens flipped.
    flip_kind : {"adversarial", "random"}, default="adversarial"
        Whether the flips are the worst by the network's gradient; each is to one of the 256
        tokens nearest to the patch's own.
    flip_steps : int, default=1
        Gradients that choose the worst flips, one after the other.  More of them find worse flips,
        as the attack ``"flips"`` does, and each is one more forward and backward pass.
    adversarial_radius : float, default=0.0
        Train on images attacked within this L2 budget of the whole image, in the same units, behind
        `augment` and `noise_std` and before they become tokens; all of a batch, by cross-entropy,
        and not clipped.  Also without tokens; not with flips or `certified_radius`.
    adversarial_steps : int, default=5
        Of projected gradient descent, straight through the tokens.
    certified_radius : float, default=0.0
        Train on the certified leads at this L2 radius, in the same units, instead of the logits;
        for additive networks, :class:`networks.AdditivePatchNet`.  Not with flips or masks.
    mask_training : callable or None, default=None
        Images (n, C, H, W) made of tokens to images of the same shape with hidden parts, such as
        :class:`networks.RandomMasks`; in training only, and after all other disturbances.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one, else the CPU.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes in the loss, times those of the images.  "balanced" lets all classes
        weigh the same.  In units of the mean weight, as `sample_weight`.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the shuffling and what is random in the module.
    train_split, callbacks, predict_nonlinearity, warm_start, verbose : optional
        As in skorch; no images are held out by default.
    iterator_train, iterator_valid, dataset, compile, use_caching, torch_load_kwargs : optional
        As in skorch.
    **kwargs
        ``module__...``, ``optimizer__...`` and so on, as in skorch;
        ``criterion__label_smoothing=0.1`` smooths labels.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        Labels; for an indicator matrix the numbers of its columns.
    multilabel_ : bool
        Whether y was an indicator matrix, so that images have several labels.
    loss_curve_ : list of float
        Training loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the held-out images after each epoch; None without them.
    module_ : torch.nn.Module
    image_shape_ : tuple (H, W, C)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.
    input_dtype_ : str
        Name of their dtype.
    n_outputs_ : int
    channel_mean_, channel_std_ : ndarray (C,)
        Of the images fitted on, in their units.
    micro_batch_size_ : int or None
        Images that are computed at once; None: a batch, whatever its size.
    n_features_in_ : int
    history_ : skorch.history.History

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> net.predict_proba(X[500:]).shape
    (1297, 10)
    """

    _held_out = "valid_acc"
    _made_by_fit = (*PatchNet._made_by_fit, "classes_inferred_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @classmethod
    def from_pretrained(
        cls, module, classes=None, *, image_shape, input_range=(0.0, 1.0), trainable="none",
        **options,
    ) -> PatchNetClassifier:  # fmt: skip
        """Make a classifier of a trained module, ready to predict without `fit`.

        `fit` starts from the same weights.  With ``trainable="none"`` it only looks at the images,
        so that `fit` of a pipeline trains the steps before it.

        Parameters
        ----------
        module : torch.nn.Module, or callable that makes one
            Takes images (n, C, H, W) to logits (n, n_classes).
        classes : array-like (n_classes,) or None, default=None
            Labels of the outputs, in the order of the outputs.  None: 0, 1, 2 and so on.
        image_shape : tuple (H, W) or (H, W, C)
            Shape of the images of X.
        input_range : pair of float or None, default=(0.0, 1.0)
            Smallest and largest value that the module expects.  Images on another scale cause a
            warning.  None: any.
        trainable : {"all", "head", "none"} or list of str, default="none"
            What `fit` and `partial_fit` would train.
        **options
            Other options, as in the constructor.

        Returns
        -------
        net : PatchNetClassifier
            Fitted.  `classes_` are sorted, and its `module_` has its outputs in that order.

        Raises
        ------
        ValueError
            If the module does not take such images to one output for each class, or if a class
            occurs twice.

        Examples
        --------
        >>> import numpy as np
        >>> from torch import nn
        >>> from sklearn_patchcert import PatchNetClassifier
        >>> trained = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> net = PatchNetClassifier.from_pretrained(
        ...     trained, classes=["dog", "cat"], image_shape=(8, 8)
        ... )
        >>> net.classes_.tolist(), net.predict(np.zeros((5, 8, 8))).shape
        (['cat', 'dog'], (5,))
        """
        if classes is None:
            classes = range(outputs_of_pretrained(module, image_shape))
        net = cls(module, classes=list(classes), image_shape=image_shape, trainable=trainable,
                  **options)  # fmt: skip
        net.classes_inferred_, _ = ordered(classes)
        return net._as_it_stands(image_shape, max(2, len(net.classes_)), input_range)

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels, sorted."""
        try:
            return self.classes_inferred_
        except AttributeError:
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit.") from None

    def predict_proba(self, X) -> NDArray[Any]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        probabilities : ndarray of float32 (n, n_classes)
            With several labels for an image, of each label by itself.
        """
        probabilities = self._outputs(X)
        # The one logit more that a single class gets for training is nobody's.
        return probabilities if len(self.classes_) > 1 else np.ones_like(probabilities[:, :1])

    def predict_log_proba(self, X) -> NDArray[Any]:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        logarithms : ndarray of float32 (n, n_classes)
            Computed from the logits where `predict_nonlinearity` is left to the network, and so
            finite where a probability is too small for float32.
        """
        check_is_fitted(self)
        own = getattr(self.criterion_, "_orig_mod", self.criterion_)
        soft = self.multilabel_ or isinstance(own, torch.nn.CrossEntropyLoss)
        if self.predict_nonlinearity != "auto" or not soft or len(self.classes_) == 1:
            with np.errstate(divide="ignore"):
                return np.log(self.predict_proba(X))
        logits = self._logits(X).double()
        function = torch.nn.functional.logsigmoid if self.multilabel_ else torch.nn.LogSoftmax(1)
        return function(logits).float().numpy()

    def _logits(self, X, compute=None):
        """Outputs of the module, a Tensor (n, n_classes) on the CPU."""
        outputs = self._outputs(X, compute or self.forward)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return outputs if len(self.classes_) > 1 else outputs[:, :1]

    def terms(self, X) -> NDArray[Any]:
        """Terms of an additive network, which add up to its logits.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        terms : ndarray of float64 (n, blocks, n_classes)
        """
        check_is_fitted(self)
        images = channels_first(check_images(self, X, reset=False, image_shape=self.image_shape))
        found = []
        with plain_torch():
            self.module_.eval()
            for part in torch.as_tensor(images).split(self.micro_batch_size_ or 4096):
                terms = self.module_.terms(part.to(self.device, copy=True))
                found.append(terms.double().cpu().numpy())
        return np.concatenate(found)

    def predict(self, X) -> NDArray[Any]:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        y : ndarray (n,), or of int64 (n, n_labels)
            For several labels an indicator matrix: those that are more probable than not.
        """
        probabilities = self.predict_proba(X)
        if self.multilabel_:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]


class PatchNetRegressor(NumberTargets, PatchNet, NeuralNetRegressor):
    """A convolutional network that predicts numbers from images, as a scikit-learn estimator.

    As :class:`PatchNetClassifier`; the targets are standardized for the training.

    Parameters
    ----------
    module : type of torch.nn.Module, callable that makes one, or instance, default=PatchConvNet
        Takes images (n, C, H, W) to values (n, n_outputs).
    trainable, head : optional
        As in :class:`PatchNetClassifier`.
    classes : None, default=None
        Must be None: values have no classes.
    criterion : type of torch.nn.Module or None, default=None
        None: MSELoss.
    optimizer, lr, lr_schedule, max_epochs, batch_size, image_shape, autocast : optional
        As in :class:`PatchNetClassifier`.
    working_memory, micro_batch_size : optional
        As in :class:`PatchNetClassifier`.
    augment, noise_std, flip_radius, flip_share, flip_kind, flip_steps : optional
        As in :class:`PatchNetClassifier`.
    adversarial_radius : float, default=0.0
        Must be 0: values have no classes that an attack would change.
    adversarial_steps : int, default=5
        A positive integer, of no effect here.
    certified_radius : float, default=0.0
        Must be 0: values have no leads.
    mask_training, device : optional
        As in :class:`PatchNetClassifier`.
    class_weight : None, default=None
        Must be None: there are no classes.
    random_state, train_split, callbacks, predict_nonlinearity, warm_start : optional
        As in :class:`PatchNetClassifier`.
    verbose, iterator_train, iterator_valid, dataset, compile, use_caching : optional
        As in :class:`PatchNetClassifier`.
    torch_load_kwargs : optional
        As in :class:`PatchNetClassifier`.
    **kwargs : optional
        As in :class:`PatchNetClassifier`.

    Attributes
    ----------
    module_ : torch.nn.Module
    image_shape_ : tuple (H, W, C)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.
    input_dtype_ : str
        Name of their dtype.
    n_outputs_ : int
    target_mean_, target_std_ : ndarray (n_outputs,)
        Of the targets fitted on.
    loss_curve_ : list of float
        Training loss of each epoch.
    validation_scores_ : list of float or None
        R squared on the held-out images after each epoch; None without them.
    channel_mean_, channel_std_ : ndarray (C,)
        Of the images fitted on, in their units.
    micro_batch_size_ : int or None
        Images that are computed at once; None: a batch, whatever its size.
    n_features_in_ : int
    history_ : skorch.history.History

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetRegressor
    >>> X = load_digits().data
    >>> net = PatchNetRegressor(max_epochs=2, random_state=0).fit(X, X.mean(axis=1))
    >>> net.predict(X).shape
    (1797,)
    """

    _held_out = "valid_r2"
    _made_by_fit = (*PatchNet._made_by_fit, "target_mean_", "target_std_", "target_ndim_")

    @property
    def predict_proba(self):
        """Not there: skorch's regressor has it, scikit-learn's have not."""
        raise AttributeError("A regressor has no predict_proba.")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @classmethod
    def from_pretrained(
        cls, module, *, image_shape, input_range=(0.0, 1.0), trainable="none", **options
    ) -> PatchNetRegressor:
        """Make a regressor of a trained module, ready to predict without `fit`.

        Parameters
        ----------
        module : torch.nn.Module
            Takes images (n, C, H, W) to values (n, n_outputs), in the units of the targets.
        image_shape, input_range, trainable, **options
            As in :meth:`PatchNetClassifier.from_pretrained`.

        Returns
        -------
        net : PatchNetRegressor
            Fitted.

        Raises
        ------
        ValueError
            If the module does not take such images to rows of values.
        """
        n_outputs = outputs_of_pretrained(module, image_shape)
        net = cls(module, image_shape=image_shape, trainable=trainable, **options)
        net.target_mean_, net.target_std_ = np.zeros(n_outputs), np.ones(n_outputs)
        net.target_ndim_ = 1 if n_outputs == 1 else 2
        return net._as_it_stands(image_shape, n_outputs, input_range)

    def predict(self, X) -> NDArray[Any]:
        """Predict the targets.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        y : ndarray of float64 (n,) or (n, n_outputs), as in fit
        """
        return self._decode_target(self._outputs(X))
