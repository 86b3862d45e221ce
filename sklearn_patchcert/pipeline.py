"""The certified pipelines: a vocabulary, an estimator, and the certificate in the input's units."""

from __future__ import annotations

import copy
import functools
from typing import Any

from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import judged, range_of, remember
from sklearn_patchcert._validation import VersionedState, as_before
from sklearn_patchcert.arrangement import check_all_tokens, check_arrangement, explained
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fitting.disturbance import Source, check_options
from sklearn_patchcert.networks.options import check_networks
from sklearn_patchcert.prediction.image_certificates import certify_prediction
from sklearn_patchcert.preprocessing import ChannelStandardizer, scaled
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary


def _on_a_copy(name):
    """A method of Pipeline that leaves X as it is, also if the first step works in place."""
    inherited = vars(Pipeline)[name]

    @functools.wraps(inherited.fn)
    def method(self, X, *args, **params):
        X = self._batch(X)
        if name.startswith("fit"):
            self._check()
            found = inherited.fn(self, self._given(X), *args, **params)
            remember(self, range_of(X), getattr(X, "dtype", "object"))
            return found
        with judged(self, X):
            return inherited.fn(self, self._given(X), *args, **params)

    found = available_if(inherited.check)(method)
    found.inherited = inherited  # what it computes
    return found


class _CertifiedPipeline(VersionedState, Pipeline):
    """A Pipeline that finds its vocabulary, and never changes its input."""

    predict, predict_proba = _on_a_copy("predict"), _on_a_copy("predict_proba")
    predict_log_proba = _on_a_copy("predict_log_proba")
    decision_function, score = _on_a_copy("decision_function"), _on_a_copy("score")
    transform = _on_a_copy("transform")
    fit_predict, fit_transform = _on_a_copy("fit_predict"), _on_a_copy("fit_transform")

    def __init__(self, steps=None, *, transform_input=None, memory=None, verbose=False) -> None:
        if steps is None:
            vocabulary = PatchVocabulary().set_output(transform="default")
            steps = [("vocab", vocabulary), ("clf", self._default_estimator())]
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)

    def __getitem__(self, ind):
        """One step, or for a slice a plain Pipeline, which offers no certificate."""
        if not isinstance(ind, slice):
            return super().__getitem__(ind)
        if ind.step not in (1, None):
            raise ValueError("Pipeline slicing only supports a step of 1")
        return Pipeline(
            self.steps[ind],
            transform_input=self.transform_input,
            memory=self.memory,
            verbose=self.verbose,
        )

    def fit(self, X, y=None, **params) -> Any:
        """Fit the steps, one after the other.

        If a step fails, or Ctrl-C comes, all are left as they were before.  X is never changed:
        steps that may work in place are given a copy.  Without a vocabulary among the steps this is
        a pipeline like any other, the undefended baseline.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,) or None
        **params
            As in :class:`sklearn.pipeline.Pipeline`.  A last step whose `fit` takes a `source` is
            given the vocabulary and the images that reach it.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the last step is known to be of another kind, such as a regressor in a classifier;
            if the only vocabulary is hidden inside a step; or if the steps after the vocabulary
            fail on token ids that did not occur at the same place in training.
        """
        self._check()
        X = self._batch(X)
        name, last = self.steps[-1]
        _, vocabulary_at = self._working_steps()
        if vocabulary_at is not None and has_fit_parameter(last, "source"):
            if not get_config()["enable_metadata_routing"]:
                params.setdefault(f"{name}__source", Source(self, X))
            elif check_options(last) is not None:
                raise ValueError(
                    f"The options of {name!r} that disturb images need to know those before the "
                    "tokens, which metadata routing keeps from it: disable the routing."
                )
        parts = [part for part in self.get_params().values() if hasattr(part, "fit")]
        steps = list(self.steps)
        try:
            with as_before(*parts):
                with explained(self):
                    super().fit(self._given(X), y, **params)
                check_all_tokens(self, X)
        except BaseException:
            self.steps[:] = steps
            raise
        remember(self, range_of(X), getattr(X, "dtype", "object"))
        return self

    def certify(self, X, norm="l2", *, return_witness=False) -> Any:
        """Compute the patch radii: within its radius, a patch keeps its token.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or iterator of such batches
            A memory-mapped array is read piece by piece, an iterator is never held as a whole.
        norm : {"l2", "linf", "l1"}, default="l2"
            The norm, within a patch, of the perturbation.
        return_witness : bool, default=False
            Whether to return, too, what shows that the radii are tight.

        Returns
        -------
        radii : ndarray of float64 (n, rows, cols) or (n, rows, cols, C)
            In the units of X, the input of the whole pipeline, also after scaling steps, and
            rounded down.  Scalers compute in the dtype of their input, so certify arrays of the
            dtype that you will predict on; integers count as float64.  Every patch may change at
            once, each by less than its own radius.  For one budget over the whole image, only the
            smallest radius is guaranteed.  The sum of patch radii is not a certificate.
        witness : Bunch
            With `return_witness` only: as :meth:`PatchVocabulary.certify` returns it, the
            perturbation in the units of X.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        TypeError
            If a step before the vocabulary is not one of the affine scalers that are known.
        ValueError
            If there is no vocabulary among the steps, the norm is unknown, or X does not fit.
        """
        check_is_fitted(self)
        steps, vocabulary = self._split()
        return vocabulary._radii(
            X,
            norm,
            before=functools.partial(scaled, steps, vocabulary) if steps else None,
            owner=self,
            return_witness=return_witness,
        )

    def _check(self):
        """Refuse steps and options that could not go well, before anything is trained."""
        check_arrangement(self, self._kind)
        check_networks(self)

    def _batch(self, X):
        """X as something that has a shape; the first step alone may know what to do with texts."""
        return as_batch(X, texts=not _is_ours(self._working_steps()[0][:1]))

    def _given(self, X):
        """X for the first step: a copy, unless that is known to leave its input as it is."""
        return X if _leaves_its_input(self._working_steps()[0][:1]) else copy.deepcopy(X)

    def _split(self):
        """The steps before the vocabulary, and the vocabulary."""
        working, at = self._working_steps()
        if at is None:
            raise ValueError("No PatchVocabulary among the steps: there is nothing to certify.")
        return working[:at], _thawed(working[at])

    def _working_steps(self):
        """The steps that do something, and the place of the vocabulary among them, or None."""
        working = [step for _, step in self.steps if step is not None and not isinstance(step, str)]
        places = [
            at for at, step in enumerate(working) if isinstance(_thawed(step), PatchVocabulary)
        ]
        return working, places[0] if places else None


def _thawed(step):
    return step.estimator if isinstance(step, FrozenEstimator) else step


def _leaves_its_input(steps):
    """Whether all of some steps are known neither to change their input nor to pass it on."""
    return all(_is_ours([s]) or getattr(_thawed(s), "copy", None) is True for s in steps)


def _is_ours(steps):
    """Whether all of some steps are of this library."""
    known = PatchVocabulary, ChannelStandardizer, PatchNetClassifier, PatchNetRegressor
    return all(isinstance(_thawed(step), known) for step in steps)


class CertifiedPatchClassifier(_CertifiedPipeline):
    """A Pipeline that discretizes images and classifies them, with a certificate.

    Parameters
    ----------
    steps : list of (str, estimator), default=None
        None makes ``[("vocab", PatchVocabulary()), ("clf", PatchNetClassifier())]``.  Any
        classifier may be the last step, scaling steps may come before the vocabulary, anything
        between the two.
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
        cells=False,
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
            Time limit per image.  The radius is then the cost reached so far.  It does not limit
            stickers.
        cells : bool, default=False
            Whether to compute the distance to the whole cells for assignments that change the
            class.  By default, costs are lower bounds from single cell boundaries.  Slower, larger
            radii.  L2 only, and without scaling steps.
        previous : Bunch or None, default=None
            What this method returned for the same X, norm and cells and the same fitted pipeline,
            or one that joblib or pickle made of it: its work is not done again.  Every step must
            be one that can be pickled, with the same parameters, and that predictions leave as it
            is; their code counts by its name.  Stickers start again.
        method : {"enumeration", "additive"}, default="enumeration"
            "additive", for L2 and additive networks, bounds all configurations at once, in
            milliseconds and without a limit; what it finds is never exact.

        Returns
        -------
        result : Bunch
            ``prediction`` (n,); ``radius`` (n,), in units of X: no perturbation of a smaller norm
            changes it; ``exact`` (n,): whether the search found a class change at exactly this
            cost, so that more search cannot enlarge the radius; ``n_configurations`` (n,) that were
            classified; ``adversarial``, of the shape of X: for L2 an image with another class, as
            near as the cells of that configuration let it be, NaN where none was found;
            ``limited`` (n,): whether the search was stopped by its budget; ``upper`` (n,):
            the cost of the cheapest configuration found that has another class or is too near to
            a tie to tell, inf where none was; ``key``: of X, norm, cells and all steps.

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
        X = as_batch(X)

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
                cells=cells,
                previous=previous,
                method=method,
                verbose=bool(vocabulary.verbose),
            )


class CertifiedPatchRegressor(_CertifiedPipeline):
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
