"""StickerCertifiedClassifier: double masking over any classifier, in tokens or in pixels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.prediction.masking.deciding import (
    certified,
    decided,
    in_parts,
    mean_probabilities,
)
from sklearn_patchcert.prediction.masking.masks import places_of
from sklearn_patchcert.prediction.masking.model import MaskedModel


def _has_probabilities(self):
    return hasattr(getattr(self, "estimator_", self.estimator), "predict_proba")


class StickerCertifiedClassifier(ClassifierMixin, MaskedModel):
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
    mask_training : bool or int, default=True
        Whether fit trains with masks, drawn as they are in the certificate, if the classifier or
        the last step of the pipeline is a :class:`PatchNetClassifier`.  A number draws so many sets
        of masks for each image and trains on the one with the largest loss, which takes longer and
        usually certifies more.  A `mask_training` of its own comes first.  All other classifiers
        are fitted to the images as they are.
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
    StickerCertifiedRegressor : Bounds the values of a regressor.
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

    _made_by_fit = (*MaskedModel._made_by_fit, "classes_")

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
        X, images = self._checked(X)
        labels, _ = self._ask(X, images, decided, width=2)
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
        labels, singles = self._ask(X, images, decided, width=2)
        given = self._given(self._view(), X, images)
        return mean_probabilities(self._setting(), given, labels, singles == labels[:, None])

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
        ValueError
            If the ids are no integers, out of range, or not as many as the image has patches.
        """
        given = self._given_tokens(ids)
        return self.classes_[in_parts(decided, self._setting(), given, self.n_jobs)[0]]

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
            If X does not fit, the classifier depends on chance or on the other images of a batch,
            or sticker_size or n_stickers was changed after fit.
        """
        X, images = self._checked(X)
        self._sticker_sizes()  # refuses masks that are for other stickers
        labels, _, masks, counts = self._ask(X, images, certified, certify=True)
        places = places_of(self._made_plan, masks)
        with quiet():
            radii = self._view().radii(X, norm)
        return Bunch(
            prediction=self.classes_[labels],
            certified=places.all((1, 2)),
            places=places,
            masks=masks,
            radii=radii,
            n_predictions=counts,
        )

    def _certified_everywhere(self, X):
        """Predictions (n,), and whether no sticker can change them, (n,) of bool.

        An image ends at the first place that is not certified, so this needs fewer answers than
        :meth:`certify`, which finds all places.
        """
        X, images = self._checked(X)
        self._sticker_sizes()
        work = partial(certified, whole=True)
        labels, _, masks, _ = self._ask(
            X, images, work, certify=True, complete=lambda columns: columns[2].any(1)
        )
        return self.classes_[labels], places_of(self._made_plan, masks).all((1, 2))

    def _take_outputs(self):
        self.classes_ = np.asarray(self.estimator_.classes_)
        if self.classes_.ndim != 1:
            raise ValueError("The estimator has several outputs: double masking is for one.")
