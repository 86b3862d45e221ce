"""The certified pipelines: a vocabulary, an estimator, and the certificate in the input's units."""

from __future__ import annotations

from typing import Any

from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._ranges import judged
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.base_pipeline import CertifiedPipeline
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.prediction.image_certificates import certify_prediction
from sklearn_patchcert.preprocessing import scaled


class CertifiedPatchClassifier(CertifiedPipeline):
    """A Pipeline that discretizes images and classifies them, with a certificate.

    Parameters
    ----------
    steps : list of (str, estimator), default=None
        None makes ``[("vocab", PatchVocabulary()), ("clf", PatchNetClassifier())]``.  Any
        classifier may be the last step, scaling steps may come before the vocabulary, anything
        between the two.  With an :class:`ImageReader` as the first step, X may be paths of files.
    transform_input, memory, verbose : optional
        As in :class:`sklearn.pipeline.Pipeline`.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name.
    classes_ : ndarray (n_classes,)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.  Predictions and certificates warn once
        if they are given images on another scale.
    input_dtype_ : str
        Name of the dtype of the images fitted on.
    n_features_in_ : int
    feature_names_in_ : ndarray of str (n_features,)

    Notes
    -----
    Inside other estimators, such as a search or a CalibratedClassifierCV, use :func:`certify`.  It
    finds the fitted pipelines.  The certificate of a prediction is that of a pipeline itself, for
    example ``search.best_estimator_.certify_prediction``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import CertifiedPatchClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = CertifiedPatchClassifier().set_params(
    ...     vocab__n_tokens=16, vocab__random_state=0, clf__max_epochs=2, clf__random_state=0
    ... )
    >>> model.fit(X[:1000], y[:1000]).certify(X[1000:]).shape
    (797, 2, 2)
    """

    _default_estimator, _kind = PatchNetClassifier, "classifier"

    def as_torch_module(self, gradient="bpda", *, temperature=1.0) -> Any:
        """The fitted pipeline as a torch module, images to logits, for any attack library.

        Parameters
        ----------
        gradient : {"bpda", "soft", "none"}, default="bpda"
            What replaces the gradient of the tokens: "bpda" passes it on as it comes, "soft" takes
            the gradient of a soft discretization, "none" stops it.
        temperature : float, default=1.0
            Temperature of "soft", in the units of a distance between patches at the vocabulary.

        Returns
        -------
        module : torch.nn.Module
            Takes images (n, C, H, W) of floats, in the units of the pipeline's input.  It has a
            copy of the network.

        Raises
        ------
        TypeError
            If the last step is not a torch network.
        """
        return as_torch_module(self, gradient, temperature=temperature)

    def certify_prediction(
        self,
        X,
        *,
        norm="l2",
        max_configurations=10_000,
        max_seconds=None,
        max_total_seconds=None,
        cells=False,
        bounds=None,
        previous=None,
        method="enumeration",
    ) -> Bunch:
        """Certified radius of the prediction of each image as a whole.

        Classify the token assignments that an attacker can reach, from the cheapest to the
        dearest.  The certificate is deterministic, holds for any classifier after the vocabulary,
        and is much larger than the smallest patch radius.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        norm : {"l2", "linf", "l0", "sticker"}, default="l2"
            Over the whole image.  "l0" counts changed values; "sticker" is the side, in pixels, of
            a square window in which anything may change.
        max_configurations : int, default=10_000
            Largest number of token assignments to classify per image.  More can only enlarge a
            radius that is not exact.
        max_seconds : float or None, default=None
            Time limit per image, including its preparation and its share of what is done once for
            all images.  The radius is then the cost reached so far.  No batch begins that is not
            expected to end in time, except that the image itself is always classified.
        max_total_seconds : float or None, default=None
            Time limit for the whole call.  The images that are left share the time that is left,
            so what one of them does not need belongs to those after it.  An image whose turn comes
            after the end has radius 0.
        cells : bool, default=False
            Whether to compute the distance to the whole cells for assignments that change the
            class.  By default, costs are lower bounds from single cell boundaries.  Slower, larger
            radii.  L2 only, and without scaling steps.
        bounds : tuple (low, high) or None, default=None
            Smallest and largest value of a pixel, in units of X, if the attacker is known to keep
            to them.  The radius then counts only images with all values between them, and is never
            smaller.  Only with `cells`.  A class that no such image has may still end the search.
        previous : Bunch or None, default=None
            What this method returned for the same X, norm, cells and bounds and the same pipeline,
            or one that joblib or pickle made of it: its work is not done again.  Every step must
            be one that can be pickled, with the same parameters, and that predictions leave as it
            is; their code counts by its name.  Stickers start again.
        method : {"enumeration", "additive"}, default="enumeration"
            "additive", for L2 and additive networks, bounds all configurations at once, in
            milliseconds and without a limit; what it finds is never exact.  Without `max_seconds`,
            `max_total_seconds` and `cells`.

        Returns
        -------
        result : Bunch
            ``prediction`` (n,); ``radius`` (n,), in units of X: no perturbation of a smaller norm
            changes it, or none between the bounds; ``exact`` (n,): whether the search found a
            class change at exactly this cost, so that more search cannot enlarge the radius;
            ``n_configurations`` (n,) that were classified; ``adversarial``, of the shape of X: for
            L2 an image with another class, as near as the cells of that configuration and the
            bounds let it be, NaN where none was found; ``limited`` (n,): whether the search was
            stopped by its budget; ``upper`` (n,): the cost of the cheapest configuration found
            that has another class or is too near to a tie to tell, inf where none was; ``key``: of
            X, norm, cells, bounds and all steps.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        TypeError
            If a step before the vocabulary is not one of the affine scalers that are known, if the
            class has a `predict` of its own, or if `method="additive"` does not fit the network.
        ValueError
            If an option is out of range, X does not fit, or `previous` is of something else; if
            there are several outputs; and if a step after the vocabulary depends on chance or on
            the other images of a batch.

        Notes
        -----
        The certificate is about :meth:`predict`, for single images as for batches.  Where rounding
        could decide the class, an assignment counts as one that changes it, so that an image that
        is tied itself has radius 0.  Scores of well-known
        estimators and wrappers are compared with a bound for their rounding.  All other estimators
        are asked for every image by itself, too, which takes longer.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.naive_bayes import CategoricalNB
        >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
        >>> X, y = load_digits(return_X_y=True)
        >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", output="ids", random_state=0)
        >>> model = CertifiedPatchClassifier(
        ...     [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
        ... )
        >>> _ = model.fit(X[:500], y[:500])
        >>> found = model.certify_prediction(X[500:510], max_configurations=1000)
        >>> found.radius.shape, bool((found.radius <= found.upper).all())
        ((10,), True)
        """
        check_is_fitted(self)
        steps, vocabulary = self._split()
        X = self._batch(X)

        def reached(part):
            return scaled(steps, vocabulary, part) if steps else (part, {})

        with judged(self, X):
            return certify_prediction(
                self,
                X,
                scaled=reached,
                norm=norm,
                max_configurations=max_configurations,
                max_seconds=max_seconds,
                max_total_seconds=max_total_seconds,
                cells=cells,
                bounds=bounds,
                previous=previous,
                method=method,
                verbose=bool(vocabulary.verbose),
            )


class CertifiedPatchRegressor(CertifiedPipeline):
    """A Pipeline that discretizes images and regresses on them, with a certificate.

    The certificate does not depend on the task: it is the same as a classifier's.

    Parameters
    ----------
    steps : list of (str, estimator), default=None
        None makes ``[("vocab", PatchVocabulary()), ("clf", PatchNetRegressor())]``.
    transform_input, memory, verbose : optional
        As in :class:`sklearn.pipeline.Pipeline`.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name.
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.  Predictions and certificates warn once
        if they are given images on another scale.
    input_dtype_ : str
        Name of the dtype of the images fitted on.
    n_features_in_ : int
    feature_names_in_ : ndarray of str (n_features,)

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import CertifiedPatchRegressor
    >>> X = load_digits().data
    >>> model = CertifiedPatchRegressor().set_params(
    ...     vocab__n_tokens=16, vocab__random_state=0, clf__max_epochs=2, clf__random_state=0
    ... )
    >>> model.fit(X, X.mean(axis=1)).certify(X).shape
    (1797, 2, 2)
    """

    _default_estimator, _kind = PatchNetRegressor, "regressor"
