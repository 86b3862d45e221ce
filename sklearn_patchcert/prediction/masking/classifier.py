"""StickerCertifiedClassifier: double masking over any classifier, in tokens or in pixels."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, _safe_indexing, check_consistent_length, column_or_1d, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import quiet
from sklearn_patchcert._validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    VersionedState,
    _fit_context,
    all_or_nothing,
    check_image_shape,
    check_images,
)
from sklearn_patchcert.parallel import over_parts, stop_if_told
from sklearn_patchcert.prediction.consistency import check_one_image_at_a_time
from sklearn_patchcert.prediction.estimator_tree import nested
from sklearn_patchcert.prediction.fingerprints import fingerprint
from sklearn_patchcert.prediction.masking.masks import (
    mask_plan,
    places_of,
    sticker_sizes,
    window_of,
)
from sklearn_patchcert.prediction.masking.remembered import Decisions, keys_of
from sklearn_patchcert.prediction.masking.rounds import Answers, certified_masks, decide
from sklearn_patchcert.prediction.masking.training import with_masks
from sklearn_patchcert.prediction.masking.views import (
    MaskedView,
    check_mask,
    images_of,
)

_AT_ONCE, _PARTS = 32, 16  # images at once, at most; parts of few images, for several jobs
_VALUES_AT_ONCE = 2**24  # of masked images, whatever the batch size
_DERIVED = "masks_", "_made_plan", "_decisions"
_PROBES = 16  # masked images on which the classifier is asked twice
_OF_PIXELS = 6  # masks along each axis, where pixels are masked


def _has_probabilities(self):
    return hasattr(getattr(self, "estimator_", self.estimator), "predict_proba")


class StickerCertifiedClassifier(
    VersionedState, MetaEstimatorMixin, ClassifierMixin, BaseEstimator
):
    """Classify images so that a sticker, anywhere, provably cannot change the answer.

    A sticker is a rectangle in which an attacker may change every pixel by any amount.  Parts of
    the image are hidden behind masks, such that every sticker lies inside at least one mask, and
    the answers to the masked images decide by *double masking* (PatchCleanser, Xiang, Mahloujifar
    and Mittal, USENIX Security 2022).  See the notes for the certificate and its proof.

    Over a :class:`CertifiedPatchClassifier` the masks replace tokens.  The certificate then holds
    for a sticker and, at the same time, any change of every other patch by less than its radius.
    Over any other classifier the masks replace pixels, which is PatchCleanser itself, and the rest
    of the image must not change.

    Parameters
    ----------
    estimator : classifier
        Fitted by :meth:`fit`.  To use a classifier that is fitted already, wrap it in
        scikit-learn's FrozenEstimator and call fit.  Tokens are masked if it is a pipeline with a
        :class:`PatchVocabulary` as a step, or a search or FrozenEstimator of such a pipeline.
    sticker_size : int, tuple (height, width), or list of these, default=5
        Size of the sticker in pixels of the image that reaches the model, which for paths of files
        is the one that the reader makes.  A list names several sizes, any of which may come.
    mask : "mean", int, float or array-like, default="mean"
        What replaces hidden parts.  "mean": the mean color of the training images, as the steps
        after the vocabulary see them; with token ids, the tokens nearest to it.  An int over
        tokens: the token of this id.  Otherwise, values that broadcast to an image (H, W, C), in
        the units of the tokens, or of X if pixels are masked.
    n_masks : int, tuple (int, int) or None, default=None
        Masks along each axis, at most.  Fewer masks are larger, which costs accuracy, and faster:
        K masks need K (K + 1) / 2 predictions for the certificate of an image.  None: the smallest
        masks over tokens, and 6 along each axis over pixels.
    n_stickers : {1, 2}, default=1
        How many stickers there may be.  For two, the masks are the unions of two masks, so that
        the number of predictions grows with the fourth power of the number of masks.
    mask_training : bool, default=True
        Whether fit trains with masks, drawn as they are in the certificate, if the classifier or
        the last step of the pipeline is a :class:`PatchNetClassifier`.  A `mask_training` of its
        own comes first.  All other classifiers are fitted to the images as they are.
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of images that come as rows.  None takes it from the estimator, or reads rows as
        :class:`PatchVocabulary` does.
    batch_size : int, default=512
        Masked images to predict at once, fewer if they are large.
    n_jobs : int or None, default=None
        Threads over images.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    estimator_ : classifier
        The fitted one.
    classes_ : ndarray (n_classes,)
    mask_space_ : {"tokens", "pixels"}
        What is masked.
    grid_ : tuple (rows, cols)
        Cells of an image: the patches of the vocabulary, or pixels.
    cell_size_ : tuple (height, width)
        Of a cell, in pixels.
    masks_ : ndarray of bool (n_masks, rows, cols)
        Which cells each mask hides.
    mask_plan_ : tuple
        What `masks_` are made for: the windows of cells that stickers touch, the number of masks
        along each axis or None, and the number of stickers.
    mask_values_ : ndarray (n_values,)
        What replaces the values of an image, or of its token ids.
    given_shape_ : tuple of int
        Shape in which an image reaches the steps after the masks.
    image_shape_ : tuple (H, W, C)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.
    input_dtype_ : str
        Name of their dtype.
    n_features_in_ : int
    feature_names_in_ : ndarray of str (n_features,)

    See Also
    --------
    CertifiedPatchClassifier.certify_prediction : Tries all tokens inside a sticker, which few
        tokens and small stickers allow.

    Notes
    -----
    **Inference.**  If the answers behind all masks agree, that is the prediction.  Otherwise, each
    mask whose answer is not the majority's is tried, in the order of `masks_`: the first one whose
    answers stay the same behind it and every other mask decides.  If there is none, the majority
    decides; of equally frequent answers, the first of `classes_`.

    **Certificate.**  A mask m is certified if the answer behind m and m' is the same label y for
    every mask m', including m itself.  Then double masking predicts y for every image that is equal
    to this one outside m, whatever is inside:

    1. Behind m, and behind m and any other mask, the attacked image is the same as the clean one,
       so that these answers are y.  The other answers may be anything.
    2. The answer behind m is y, so if all masks agree, they agree on y.
    3. A mask with another answer z cannot decide, because behind it and m the answer is y.
    4. A mask that answers y can decide only for y.
    5. If no mask that is tried decides, m was not tried.  So y is the majority's answer.

    The order of the masks and ties between classes do not matter.  Rounding does not matter either:
    answers that it could change count as other answers in the certificate.

    **Other patches.**  Over tokens, "equal" means that all tokens outside m are the same.  A patch
    keeps its token as long as it moves by less than its radius, so all patches outside the sticker
    may move at once.

    There is no such class for regression.  The mean or median of the values behind masks has no
    useful bound, since a sticker reaches all of them but one.  To predict the value behind the mask
    whose values vary least in the second round would need all pairs of masks for every prediction,
    and its certified interval would be three times as wide as that variation.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_patchcert import (
    ...     CertifiedPatchClassifier, PatchVocabulary, StickerCertifiedClassifier
    ... )
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> vocabulary = PatchVocabulary(16, patch_size=2, strategy="kmeans", random_state=0)
    >>> pipeline = CertifiedPatchClassifier(
    ...     [("vocab", vocabulary), ("clf", LogisticRegression(max_iter=200))]
    ... )
    >>> model = StickerCertifiedClassifier(pipeline, sticker_size=2).fit(X[:1000], y[:1000])
    >>> found = model.certify(X[1000:1010])
    >>> found.places.shape, found.radii.shape
    ((10, 4, 4), (10, 4, 4))
    >>> bool((found.certified == found.places.all(axis=(1, 2))).all())
    True
    """

    _made_by_fit = (
        "estimator_", "classes_", "mask_values_", "mask_plan_", "given_shape_", "grid_",
        "cell_size_", "mask_space_", "image_shape_",
    )  # fmt: skip

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "sticker_size": [Integral, tuple, list],
        "mask": [str, Real, "array-like"],
        "n_masks": [None, Interval(Integral, 1, None, closed="left"), tuple],
        "n_stickers": [Interval(Integral, 1, 2, closed="both")],
        "mask_training": ["boolean"],
        "image_shape": [None, tuple, list],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        sticker_size=5,
        *,
        mask="mean",
        n_masks=None,
        n_stickers=1,
        mask_training=True,
        image_shape=None,
        batch_size=512,
        n_jobs=None,
        verbose=0,
    ) -> None:
        self.estimator = estimator
        self.sticker_size = sticker_size
        self.mask = mask
        self.n_masks = n_masks
        self.n_stickers = n_stickers
        self.mask_training = mask_training
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y, **fit_params) -> StickerCertifiedClassifier:
        """Fit the classifier, a network with masks in its training.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
            Or paths (n,), if the pipeline begins with an :class:`ImageReader`.
        y : array-like (n,)
        **fit_params
            Go to the classifier's fit, by metadata routing if that is enabled.  `sample_weight`
            goes to the last step of a pipeline.

        Returns
        -------
        self : StickerCertifiedClassifier

        Raises
        ------
        TypeError
            If the estimator is a regressor, or a step before the vocabulary does not treat every
            pixel by itself.
        ValueError
            If there are several outputs, or an option is out of range.
        """
        y = self._check_task(y)
        sizes = sticker_sizes(self.sticker_size)
        check_mask(self.mask)
        read = images_of(self.estimator, X, y)
        batch = as_batch(read)
        images = check_images(self, batch, reset=True, image_shape=self._shape(self.estimator))
        check_consistent_length(images, y)
        estimator = clone(self.estimator)
        with quiet():
            plan, params = partial(self._plan_of, sizes), self._routed(estimator, fit_params)
            net = with_masks(estimator, plan, self) if self.mask_training else None
            estimator.fit(X, y, **params)
            if net is not None:
                net.set_params(mask_training=None)  # only training has them
        self.estimator_, self.classes_ = estimator, np.asarray(estimator.classes_)
        if self.classes_.ndim != 1:
            raise ValueError("The estimator has several outputs: double masking is for one.")
        shape = self._shape(estimator)
        if shape is not None and shape != self.image_shape_:
            images = check_images(self, batch, reset=True, image_shape=shape)
        view = self._view()
        view.check(batch)
        self.mask_space_, self.grid_, self.cell_size_ = view.space, view.grid, view.patch_size
        with quiet():
            self.mask_values_ = view.values(self.mask, batch, images)
            like = view.given(_safe_indexing(batch, [0]), images[:1])
        self.given_shape_ = tuple(like.shape[1:])
        self.mask_plan_ = self._plan_of(sizes, view.grid, view.patch_size, view.space)
        self._make_plan()
        return self

    def _make_plan(self):
        """What follows from the other attributes of a fitted one."""
        self._made_plan = mask_plan(self.grid_, *self.mask_plan_)
        self.masks_, self._decisions = self._made_plan.masks, Decisions()

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _DERIVED}

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "mask_plan_"):
            self._make_plan()

    def _check_task(self, y):
        """Labels (n,), if there is one for each image and the estimator can predict such."""
        name = type(self).__name__
        if get_tags(self.estimator).estimator_type == "regressor":
            raise TypeError(
                f"{type(self.estimator).__name__} is a regressor, but double masking compares "
                "labels: pass a classifier."
            )
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
        if len(shape) > 1 and shape[1] > 1:
            raise ValueError(
                f"y of shape {shape} has several labels for each image, but double masking is for "
                "one: fit one model for each column."
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _shape(self, estimator):
        """Shape (H, W, C) of images as a part of the estimator, or the user, has it, else None."""
        parts = nested(estimator)
        told = [getattr(part, "image_shape_", None) for part in parts]
        told += [self.image_shape, *(getattr(part, "image_shape", None) for part in parts)]
        said = next((one for one in told if one is not None), None)
        return None if said is None else check_image_shape(said)

    def _plan_of(self, sizes, grid, cell, space):
        """Windows, masks along each axis and number of stickers, as mask_plan takes them."""
        counts = self.n_masks if self.n_masks or space == "tokens" else _OF_PIXELS
        if isinstance(counts, tuple) and not (
            len(counts) == 2 and all(isinstance(one, Integral) and one >= 1 for one in counts)
        ):
            raise ValueError(f"n_masks must be a positive int or a pair of them, got {counts}.")
        windows = tuple(dict.fromkeys(window_of(size, cell, grid) for size in sizes))
        pair = counts if isinstance(counts, tuple) else (counts, counts)
        pair = tuple(None if one is None else int(one) for one in pair)
        return windows, None if None in pair else pair, int(self.n_stickers)

    def _routed(self, estimator, params):
        """Parameters for the fit of the estimator."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **params).estimator.fit if params else {}
        if "sample_weight" in params and isinstance(estimator, Pipeline):
            params[f"{estimator.steps[-1][0]}__sample_weight"] = params.pop("sample_weight")
        return params

    def get_metadata_routing(self) -> Any:
        """Where metadata such as `sample_weight` goes.

        Returns
        -------
        routing : MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # of a few values, masks may leave nothing
        return tags

    def predict(self, X) -> NDArray[Any]:
        """Predict by double masking.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        y : ndarray (n,)
            At once for images that :meth:`certify` has seen since the model was fitted.
        """
        labels, _ = self._decide(*self._checked(X))
        return self.classes_[labels]

    @available_if(_has_probabilities)
    def predict_proba(self, X) -> NDArray[np.float64]:
        """Mean probabilities behind the masks that agree with the prediction.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        probabilities : ndarray of float64 (n, n_classes)
            The largest one is that of the prediction.  If the estimator itself does not predict the
            class of its largest probability, 1 for the prediction and 0 for all others may replace
            them.
        """
        X, images = self._checked(X)
        labels, singles = self._decide(X, images)
        view, alone = self._view(), np.diagonal(self._made_plan.pairs)
        given = self._given(view, X, images)
        rows, masks = np.nonzero(singles == labels[:, None])
        sums = np.zeros((len(labels), len(self.classes_)))
        size = self._settings(view)[-1]
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            hidden = self._made_plan.unions[alone[masks[part]]]
            masked = view.masked(given, self.mask_values_, rows[part], hidden)
            with quiet():
                np.add.at(sums, rows[part], view.rest.predict_proba(masked))
        mean = sums / np.maximum(sums.sum(1, keepdims=True), np.finfo(float).tiny)
        other = mean.argmax(1) != labels
        mean[other] = np.eye(len(self.classes_))[labels[other]]
        return mean

    def predict_tokens(self, ids) -> NDArray[Any]:
        """Predict by double masking from the token ids of images.

        Parameters
        ----------
        ids : array-like of int (n, rows, cols) or (n, rows, cols, C)
            As :meth:`PatchVocabulary.tokenize` returns them.  The steps after the vocabulary are
            given images in the layout of the training images.

        Returns
        -------
        y : ndarray (n,)

        Raises
        ------
        TypeError
            If pixels are masked, so that there are no tokens.
        """
        check_is_fitted(self)
        view = self._view()
        if view.vocabulary is None:
            raise TypeError("predict_tokens is for a pipeline with a vocabulary.")
        given = view.of_tokens(ids).reshape(-1, *self.given_shape_)
        return self.classes_[self._over(partial(_decided, *self._settings(view)), given, "")[0]]

    def certify(self, X, norm="l2") -> Bunch:
        """Certify the predictions against stickers, place by place.

        Images that have been certified before are not certified again until the next fit, also if
        the call was interrupted by Ctrl-C.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        norm : {"l2", "linf", "l1"}, default="l2"
            The norm, within a patch, of `radii`.

        Returns
        -------
        result : Bunch
            ``prediction`` (n,); ``certified`` (n,) of bool: whether no sticker can change it,
            wherever it is; ``places`` (n, rows, cols) of bool: whether no sticker whose upper left
            pixel lies in this cell can change it; ``masks`` (n, n_masks) of bool: which masks are
            certified; ``radii`` (n, rows, cols) or (n, rows, cols, C): every patch outside the
            sticker may move by less than its radius at the same time, None if pixels are masked;
            ``n_predictions`` (n,): how many masked images were classified.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If X does not fit, or the classifier depends on chance or on the other images of a
            batch.
        """
        X, images = self._checked(X)
        view, plan = self._view(), self._made_plan
        keys = keys_of(self._key(), np.asarray(X))
        kept = self._decisions.get(keys)
        left = [at for at, one in enumerate(kept) if one is None]
        if left:
            given = self._given(view, _safe_indexing(X, left), images[left])
            self._check_one_at_a_time(view, given)
            work = partial(_certified, *self._settings(view))
            columns = self._over(work, given, "certifying", [keys[at] for at in left])
            for at, *found in zip(left, *columns, strict=True):
                kept[at] = tuple(found)
        labels, _, masks, counts = (np.array(column) for column in zip(*kept, strict=True))
        places = places_of(plan, masks)
        with quiet():
            radii = view.radii(X, norm)
        return Bunch(
            prediction=self.classes_[labels],
            certified=places.all((1, 2)),
            places=places,
            masks=masks,
            radii=radii,
            n_predictions=counts,
        )

    def _checked(self, X):
        """X as something that has a shape, and as images (n, H, W, C)."""
        check_is_fitted(self)
        X = as_batch(images_of(self.estimator_, X))
        return X, check_images(self, X, reset=False, image_shape=self.image_shape_)

    def _view(self):
        return MaskedView(self.estimator_, self.image_shape_, self.classes_)

    def _given(self, view, X, images):
        with quiet():
            return view.given(X, images)

    def _settings(self, view):
        most = max(1, _VALUES_AT_ONCE // len(self.mask_values_))
        return view, self._made_plan, self.mask_values_, min(self.batch_size, most)

    def _key(self):
        """Of all that a decision depends on."""
        return fingerprint((self.estimator_, self.mask_values_, self.masks_))

    def _decide(self, X, images):
        """Index of the class of each image, and the answers (n, n_masks) behind one mask."""
        kept = [None] * len(images)
        if len(self._decisions):
            kept = self._decisions.get(keys_of(self._key(), np.asarray(X)))
        labels = np.empty(len(images), dtype=np.int64)
        singles = np.empty((len(images), len(self.masks_)), dtype=np.int64)
        left = []
        for at, one in enumerate(kept):
            if one is None:
                left.append(at)
            else:
                labels[at], singles[at] = one[:2]
        if left:
            view = self._view()
            given = self._given(view, _safe_indexing(X, left), images[left])
            work = partial(_decided, *self._settings(view))
            labels[left], singles[left] = self._over(work, given, "predicting")
        return labels, singles

    def _over(self, work, given, label, keys=None):
        """Columns of what `work` makes of parts of the images; decisions are kept at once."""
        n = len(given)
        least = 1 if keys is not None else -(-self.batch_size // len(self.masks_))
        size = min(_AT_ONCE, max(least, -(-n // _PARTS)))  # a first round fills a batch
        parts = [slice(at, min(at + size, n)) for at in range(0, n, size)]
        pieces = over_parts(work, ((_safe_indexing(given, part),) for part in parts), self.n_jobs)
        bar = tqdm(desc=label, total=n, unit="image", disable=not (self.verbose and label))
        found = []
        with bar, closing(pieces):
            for part, piece in zip(parts, pieces, strict=True):
                if keys is not None:
                    self._decisions.put(keys[part], list(zip(*piece, strict=True)))
                found.append(piece)
                bar.update(part.stop - part.start)
        return [np.concatenate(column) for column in zip(*found, strict=True)]

    def _check_one_at_a_time(self, view, given):
        """Refuse a classifier whose answer is not a function of one image."""
        unions = self._made_plan.unions
        rng = np.random.default_rng(0)
        rows = np.arange(_PROBES) % len(given)
        hidden = unions[rng.integers(len(unions), size=_PROBES)]
        with quiet():
            check_one_image_at_a_time(
                view.rest, view.masked(given, self.mask_values_, rows, hidden)
            )


@quiet()
def _decided(view, plan, values, batch_size, given):
    """Answers of double masking for some images, and the answers behind one mask."""

    def ask(rows, unions):
        stop_if_told()
        masked = view.masked(given, values, rows, plan.unions[unions])
        return view.predict(masked), True

    answers = Answers(ask, (len(given), len(plan.unions)), batch_size)
    labels = decide(answers, plan.pairs)
    return labels, answers.labels[:, np.diagonal(plan.pairs)]


@quiet()
def _certified(view, plan, values, batch_size, given):
    """As :func:`_decided`, with the certified masks and the number of answers."""
    read = view.read()

    def ask(rows, unions):
        stop_if_told()
        return read(view.masked(given, values, rows, plan.unions[unions]))

    answers = Answers(ask, (len(given), len(plan.unions)), batch_size)
    labels = decide(answers, plan.pairs)
    certified = certified_masks(answers, plan.pairs, plan.holds, labels)
    return labels, answers.labels[:, np.diagonal(plan.pairs)], certified, answers.asked
