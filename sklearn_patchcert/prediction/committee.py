"""A committee of certified pipelines that vote."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import VotingClassifier
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import judged
from sklearn_patchcert._state import VersionedState, all_or_nothing
from sklearn_patchcert.prediction.search import budgets
from sklearn_patchcert.prediction.voting import committee_radius, plurality


class CertifiedCommittee(VersionedState, VotingClassifier):
    """Certified classifiers that vote, with a certificate of the vote.

    A member cannot change its vote while the perturbation is smaller than that member's certified
    radius.  The vote stays the same while enough members cannot change theirs.  For three members
    that agree, this is up to the second largest of their radii.  Members should differ in patch
    size, shape or tokens.

    Parameters
    ----------
    estimators : list of (str, estimator)
        With a `certify_prediction` each.
    n_jobs : int or None, default=None
        Members fitted at once.
    verbose : bool, default=False

    Attributes
    ----------
    estimators_ : list of estimators
        Fitted to the indices of the classes.
    classes_ : ndarray (n_classes,)

    See Also
    --------
    sklearn.ensemble.VotingClassifier : What this is, with hard votes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import CategoricalNB
    >>> from sklearn_patchcert import CertifiedCommittee, CertifiedPatchClassifier, PatchVocabulary
    >>> X, y = load_digits(return_X_y=True)
    >>> members = [
    ...     (str(shape), CertifiedPatchClassifier([
    ...         ("vocab", PatchVocabulary(8, shape, output="ids", random_state=0)),
    ...         ("clf", CategoricalNB(min_categories=8))]))
    ...     for shape in [(4, 4), (8, 2), (2, 8)]
    ... ]
    >>> committee = CertifiedCommittee(members).fit(X[:1000], y[:1000])
    >>> committee.certify_prediction(X[1000:1010]).radius.shape
    (10,)
    """

    _made_by_fit = ("estimators_", "classes_")

    # Not to be set: the certificate is of the vote in which every member counts once.
    voting = property(lambda self: "hard")
    weights = property(lambda self: None)
    flatten_transform = property(lambda self: True)

    def __init__(self, estimators, *, n_jobs=None, verbose=False) -> None:
        self.estimators = estimators
        self.n_jobs = n_jobs
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X, y, **fit_params) -> CertifiedCommittee:
        """Fit the members, on the numbers of the classes.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,)
        **fit_params
            Go to the members' fit.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a frozen member was fitted on other labels than the numbers 0, 1, ... of the classes,
            in the order of `classes_`: its votes would count for other classes.
        """
        super().fit(X, y, **fit_params)
        names = [name for name, member in self.estimators if member != "drop"]
        numbers = np.arange(len(self.classes_))
        for name, member in zip(names, self.estimators_, strict=True):
            classes = np.asarray(getattr(member, "classes_", numbers))
            if not np.array_equal(classes, numbers):
                raise ValueError(
                    f"The member {name!r} answers {classes.tolist()!r:.60}, but members vote by "
                    f"the numbers 0 to {numbers[-1]} of the classes {self.classes_!r:.60}: fit a "
                    "frozen member on these numbers, or pass it without FrozenEstimator."
                )
        return self

    def transform(self, X) -> NDArray[Any]:
        """Votes of the members.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
            Every member gets a copy, since one that works in place would change it for the others.

        Returns
        -------
        votes : ndarray of int (n, n_members)
            Indices of classes.
        """
        check_is_fitted(self)
        X = as_batch(X)
        with judged(self.estimators_[0], X):
            return np.stack([member.predict(_copy(X)) for member in self.estimators_], axis=1)

    def predict(self, X) -> NDArray[Any]:
        """Predict the class with the most votes, the first one if there is a tie.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        y : ndarray (n,)
        """
        votes = self.transform(X)
        return self.classes_[plurality(votes.T, len(self.classes_))]

    def certify_prediction(self, X, **options) -> Bunch:
        """Compute the certified radius of the vote on each image.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        **options
            Go to the members' :meth:`CertifiedPatchClassifier.certify_prediction`; `previous` is
            not for committees.  Members share `max_seconds` and `max_total_seconds`.

        Returns
        -------
        result : Bunch
            ``prediction``, ``radius`` and ``n_configurations``, the members' in all, as theirs;
            ``exact`` only where an image of that norm, but for rounding, has another class;
            ``adversarial``: the nearest of the members' that changes the vote; ``limited`` where a
            member is; ``upper``: the norm of the adversarial image, inf where there is none.

        Raises
        ------
        NotFittedError
            If the committee is not fitted.
        TypeError
            If a member has no certificate, or `previous` is given.
        ValueError
            If a time limit is not positive, or as of the members.
        """
        check_is_fitted(self)
        own = type(self).predict, type(self).transform
        if own != (CertifiedCommittee.predict, CertifiedCommittee.transform):
            raise TypeError(
                f"{type(self).__name__} votes in its own way, of which nothing is known: certify a "
                "CertifiedCommittee."
            )
        if "previous" in options:
            raise TypeError("A committee has no previous: certify its members by themselves.")
        names = [name for name, member in self.estimators if member != "drop"]
        for name, member in zip(names, self.estimators_, strict=True):
            if not hasattr(member, "certify_prediction"):
                raise TypeError(f"{name!r} has no certify_prediction: {member!r}.")
        X = as_batch(X)
        with judged(self.estimators_[0], X):
            found = [
                member.certify_prediction(_copy(X), **limited)
                for member, limited in zip(
                    self.estimators_, budgets.shared(options, len(self.estimators_)), strict=True
                )
            ]
        frame, X = X, np.asarray(X)
        votes = np.stack([one.prediction for one in found])
        winners, radius = committee_radius(
            votes, np.stack([one.radius for one in found]), len(self.classes_)
        )
        result = Bunch(
            prediction=self.classes_[winners],
            radius=radius,
            exact=np.zeros(len(X), dtype=bool),
            n_configurations=np.sum([one.n_configurations for one in found], axis=0),
            adversarial=np.full(X.shape, np.nan),
            limited=np.any([one.limited for one in found], axis=0),
            upper=np.full(len(X), np.inf),
        )
        for one in found:
            rows = np.flatnonzero(~np.isnan(one.adversarial).reshape(len(X), -1).any(1))
            if not len(rows):
                continue
            moved = one.adversarial[rows]
            norms = np.linalg.norm((moved - X[rows]).reshape(len(rows), -1), axis=1)
            named = moved.copy()
            if hasattr(frame, "columns"):
                named = type(frame)(named, columns=frame.columns)
            better = self.predict(named) != result.prediction[rows]
            better &= norms < result.upper[rows]
            result.upper[rows[better]] = norms[better]
            result.adversarial[rows[better]] = moved[better]
        result.exact = (result.upper <= result.radius * (1 + 1e-4)) & np.isfinite(result.upper)
        return result


def _copy(X):
    return X.copy() if hasattr(X, "copy") else np.array(X)
