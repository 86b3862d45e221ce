"""StickerCertifiedRegressor: values behind masks, and an interval that stickers cannot leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Bunch

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.prediction.masking.deciding import in_parts, valued
from sklearn_patchcert.prediction.masking.intervals import lower_bounds
from sklearn_patchcert.prediction.masking.model import MaskedModel


class StickerCertifiedRegressor(RegressorMixin, MaskedModel):
    """Predict values with an interval that a sticker, anywhere, provably cannot leave.

    As :class:`StickerCertifiedClassifier`, with values instead of labels: parts of the image are
    hidden behind masks, such that every sticker lies inside at least one mask.  See the notes for
    the prediction, its interval and the proof.

    Over a :class:`CertifiedPatchRegressor` the masks replace tokens.  The interval then holds for a
    sticker and, at the same time, any change of every other patch by less than its radius.  Over
    any other regressor the masks replace pixels, and the rest of the image must not change.

    Parameters
    ----------
    estimator : regressor
        Fitted by :meth:`fit`, for one target.  To use a regressor that is fitted already, wrap it
        in scikit-learn's FrozenEstimator and call fit.  Tokens are masked if it is a pipeline with
        a :class:`PatchVocabulary` as a step, or a search or FrozenEstimator of such a pipeline.
    sticker_size : int, tuple (height, width), or list of these, default=5
        As in :class:`StickerCertifiedClassifier`, in pixels.
    mask : "mean", int, float or array-like, default="mean"
        What replaces hidden parts, as in :class:`StickerCertifiedClassifier`.
    n_masks : int, tuple (int, int) or None, default=None
        Masks along each axis, at most.  Fewer masks are larger, which costs accuracy, and faster:
        with K masks, an image needs K (K + 1) / 2 predictions, of :meth:`predict` as well.  None:
        the smallest masks over tokens, and 6 along each axis over pixels.
    n_stickers : {1, 2}, default=1
        How many stickers there may be.  For two, the masks are the unions of two masks, so that
        the number of predictions grows with the fourth power of the number of masks.
    mask_training : bool or int, default=True
        Whether fit trains with masks if the regressor or the last step of the pipeline is a
        :class:`PatchNetRegressor`.  A number draws so many sets of masks for each image and trains
        on the one with the largest loss.  A `mask_training` of its own comes first.
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
    estimator_ : regressor
        The fitted one.
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
    StickerCertifiedClassifier : The same for labels.

    Notes
    -----
    **Inference.**  Let :math:`f(x, m, m')` be the value behind the masks m and m'.  The span of a
    mask m reaches from the smallest to the largest :math:`f(x, m, m')` over all masks m', including
    m itself.  The prediction is the median of the values behind one mask, moved as little as needed
    so that it lies in the spans of all masks.  That is possible for every image, attacked or not:
    any two spans have the value behind both masks in common, and intervals of numbers that meet in
    pairs all have a point in common.

    **Certificate.**  If a mask m hides the sticker, the prediction stays in the span that m has on
    the clean image:

    1. Behind m, and behind m and any other mask, the attacked image is the same as the clean one,
       so that the span of m is the same.  The other values may be anything.
    2. The prediction lies in the spans of all masks, so in that of m.

    No smaller interval holds if an attacker can choose the other values freely.  The mean of the
    values behind masks has no such bound, because the sticker changes all of them but those that
    involve m.  Nor has their median: with three masks or more, the sticker changes most of them.

    The values of an image are computed in batches of its own.  What rounding could change in spite
    of that is measured on a few values, and is added to both sides of the interval.

    **Other patches.**  Over tokens, "the same" means that all tokens outside m are the same.  A
    patch keeps its token as long as it moves by less than its radius, so all patches outside the
    sticker may move at once.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_patchcert import (
    ...     CertifiedPatchRegressor, PatchVocabulary, StickerCertifiedRegressor
    ... )
    >>> X = load_digits().data / 16
    >>> y = X.mean(axis=1)                         # how much ink there is
    >>> vocabulary = PatchVocabulary(16, patch_size=2, strategy="kmeans", random_state=0)
    >>> pipeline = CertifiedPatchRegressor([("vocab", vocabulary), ("reg", Ridge())])
    >>> model = StickerCertifiedRegressor(pipeline, sticker_size=2).fit(X[:1000], y[:1000])
    >>> found = model.certify(X[1000:1010])
    >>> bool(((found.lower <= found.prediction) & (found.prediction <= found.upper)).all())
    True
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # of a few values, masks may leave nothing
        return tags

    def _check_answers(self, view, given):
        view.numbers(given)

    def predict(self, X) -> NDArray[np.float64]:
        """Predict the value that lies in the spans of all masks.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        y : ndarray of float64 (n,)
            At once for images that :meth:`certify` has seen since the model was fitted.
        """
        X, images = self._checked(X)
        return self._ask(X, images, valued, width=1)[0]

    def predict_tokens(self, ids) -> NDArray[np.float64]:
        """Predict from the token ids of images.

        Parameters
        ----------
        ids : array-like of int (n, rows, cols) or (n, rows, cols, C)
            As :meth:`PatchVocabulary.tokenize` returns them.

        Returns
        -------
        y : ndarray of float64 (n,)

        Raises
        ------
        TypeError
            If pixels are masked, so that there are no tokens.
        ValueError
            If the ids are no integers, out of range, or not as many as the image has patches.
        """
        given = self._given_tokens(ids)
        return in_parts(valued, self._setting(), given, self.n_jobs)[0]

    def certify(self, X, norm="l2") -> Bunch:
        """Bound the predictions under stickers, place by place.

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
            ``prediction`` (n,); ``lower`` and ``upper`` (n,): between them lies the prediction
            under any sticker, wherever it is; ``places_lower`` and ``places_upper``
            (n, rows, cols): the same for a sticker whose upper left pixel lies in this cell;
            ``radii`` (n, rows, cols) or (n, rows, cols, C): every patch outside the sticker may
            move by less than its radius at the same time, None if pixels are masked.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If X does not fit, the regressor depends on chance or on the other images of a batch,
            or sticker_size or n_stickers was changed after fit.
        """
        X, images = self._checked(X)
        self._sticker_sizes()  # refuses masks that are for other stickers
        values, low, high = self._ask(X, images, valued, certify=True)
        lower = lower_bounds(self._made_plan, low)
        upper = -lower_bounds(self._made_plan, -high)
        with quiet():
            radii = self._view().radii(X, norm)
        return Bunch(
            prediction=values,
            lower=lower.min((1, 2)),
            upper=upper.max((1, 2)),
            places_lower=lower,
            places_upper=upper,
            radii=radii,
        )
