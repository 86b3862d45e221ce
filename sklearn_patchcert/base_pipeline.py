"""What both certified pipelines do: fit, find the vocabulary, certify in the units of the input."""

from __future__ import annotations

import copy
import functools
from typing import Any

from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import judged, range_of, remember
from sklearn_patchcert._state import VersionedState, as_before
from sklearn_patchcert.datasets.readers import ImageReader, holds_paths, in_batches, reader_of
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fitting.disturbance import check_options
from sklearn_patchcert.networks.fitting.source import Source
from sklearn_patchcert.networks.options import check_networks
from sklearn_patchcert.prediction.arrangement import (
    check_all_tokens,
    check_arrangement,
    explained,
)
from sklearn_patchcert.preprocessing import ChannelStandardizer, scaled
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary


def _on_a_copy(name):
    """A method of Pipeline that leaves X as it is, also if the first step works in place."""
    inherited = vars(Pipeline)[name]

    @functools.wraps(inherited.fn)
    def method(self, X, *args, **params):
        if name.startswith("fit"):
            self._check()
            X = self._batch(X, _labels(args, params))
            found = inherited.fn(self, self._given(X), *args, **params)
            remember(self, range_of(X), getattr(X, "dtype", "object"))
            return found
        X = self._batch(X, _labels(args, params))
        with judged(self, X):
            return inherited.fn(self, self._given(X), *args, **params)

    found = available_if(inherited.check)(method)
    found.inherited = inherited  # what it computes
    return found


def _labels(args, params):
    return args[0] if args else params.get("y")


class CertifiedPipeline(VersionedState, Pipeline):
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
        X = self._batch(X, y)
        name, last = self.steps[-1]
        _, vocabulary_at = self._working_steps()
        if vocabulary_at is not None and has_fit_parameter(last, "source"):
            if not get_config()["enable_metadata_routing"]:
                params.setdefault(f"{name}__source", Source(self, X))
            elif (check_options(last) or {}).get("before_tokens"):
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
            Behind an :class:`ImageReader`, paths (n,), too; radii are then in units of [0, 1], of
            the image that the reader makes.
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
        reader = self._reader()
        if reader is not None:
            whole = return_witness and holds_paths(X)
            X = reader.transform(X) if whole else in_batches(reader, X)
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

    def _reader(self):
        """The first step, if it reads files."""
        return reader_of(self._working_steps()[0])

    def _batch(self, X, y=None):
        """X as something that has a shape; the first step alone may know what to do with texts."""
        reader = self._reader()
        if reader is not None:
            return reader.fit_transform(X, y) if holds_paths(X) else as_batch(X)
        return as_batch(X, texts=not _is_ours(self._working_steps()[0][:1]))

    def _given(self, X):
        """X for the first step: a copy, unless that is known to leave its input as it is."""
        return X if _leaves_its_input(self._working_steps()[0][:1]) else copy.deepcopy(X)

    def _split(self):
        """The steps before the vocabulary, but for a reader of files, and the vocabulary."""
        working, at = self._working_steps()
        if at is None:
            raise ValueError("No PatchVocabulary among the steps: there is nothing to certify.")
        return working[self._reader() is not None : at], _thawed(working[at])

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
    known = PatchVocabulary, ChannelStandardizer, PatchNetClassifier, PatchNetRegressor, ImageReader
    return all(isinstance(_thawed(step), known) for step in steps)
