"""robustness_report: what every attack and every certificate says of a classifier, in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from sklearn_patchcert.attacks.evaluation import (
    agreed,
    asked,
    classes_of,
    columns_of,
    evaluated,
    has_tokens,
    seed_of,
)
from sklearn_patchcert.attacks.robustness import knows_flips, run_attack, worst_case
from sklearn_patchcert.checks import check_bounds, check_count, check_norm, check_number
from sklearn_patchcert.smoothing.classifier import SmoothedClassifier

_GRADIENTS = ("sspgd", "pgd", "apgd-ce", "apgd-dlr")


def robustness_report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float,
    norm: str | float = "l2",
    bounds: tuple[float, float] | None = None,
    temperature: float = 1.0,
    steps: int = 40,
    sigma: float | None = None,
    n: int = 1000,
    random_state: int | np.random.RandomState | None = 0,
    verbose: bool = False,
) -> Bunch:
    """Accuracy of a fitted classifier under every attack, its certificates, and sanity checks.

    Parameters
    ----------
    estimator : fitted skorch classifier, or pipeline that ends in one
        Searches, FrozenEstimators and pipelines around it are looked through.
    X : array-like (n_images, n_features), (n_images, H, W) or (n_images, H, W, C)
    y : array-like (n_images,) or (n_images, 1)
    eps : float
        Norm of the perturbation of a whole image, in units of X.
    norm : {"l2", "linf"}
    bounds : tuple (low, high) or None
        Of valid values of X.
    temperature : float
        Of the soft gradient through tokens; see :func:`attacks.as_torch_module`.
    steps : int
        Of the attacks by gradient; the random searches take ten times as many.
    sigma : float or None
        Of randomized smoothing, with `n` copies of each image, for L2; None leaves it out.
    n : int
        Copies.
    random_state : int, RandomState or None
    verbose : bool
        Whether to show progress bars.

    Returns
    -------
    report : Bunch
        ``table``: a DataFrame of name and accuracy in per cent, or without pandas a list of dicts;
        ``checks``: dict of str to bool, the sanity checks of Athalye, Carlini and Wagner (ICML
        2018) and of Carlini et al. (arXiv:1902.06705): a check that fails says that the attacks,
        not necessarily the model, are weak; ``robust`` (n_images,): withstood everything.
        ``print(report)`` shows the table and, of each check, pass or fail.

    Raises
    ------
    ValueError, TypeError
        As for :func:`attacks.run_attack`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.scorers import robustness_report
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> report = robustness_report(net, X[500:520], y[500:520], eps=2.0, steps=4)
    >>> report.robust.shape, len(report.checks)
    ((20,), 5)
    """
    eps, norm, seed = check_number("eps", eps), check_norm(norm), seed_of(random_state)
    steps, n = check_count("steps", steps), check_count("n", n)
    check_number("temperature", temperature, positive=True)
    if sigma is not None and (norm != "l2" or not check_number("sigma", sigma, positive=True)):
        raise ValueError('sigma is for norm="l2": smoothing certifies in that norm only.')
    model, X, y = evaluated(estimator, X, y)
    options = {"norm": norm, "bounds": check_bounds(bounds), "random_state": seed}
    discrete = has_tokens(model)
    suite: list = [("noise", {"steps": steps}), ("square", {"steps": 10 * steps}), ("sspgd", {})]
    suite += [(name, {"steps": steps}) for name in _GRADIENTS[1:]]
    if discrete:
        soft = {"gradient": "soft", "temperature": temperature}
        suite += [(name, soft if name == "sspgd" else {"steps": steps, **soft})
                  for name in _GRADIENTS]  # fmt: skip
        suite += [("flips", {})] * knows_flips(model, norm, bounds)
    found = worst_case(model, X, y, suite, eps=eps, verbose=verbose, **options)
    rows = {"clean": found.correct}
    rows |= {name: found.correct & ~success for name, success in found.success.items()}
    rows["worst case"] = found.robust
    if norm == "l2" and discrete and hasattr(model, "certify"):
        smallest = asked(model.certify, X).reshape(len(found.correct), -1).min(1)
        rows["certified: smallest patch radius"] = found.correct & (smallest > eps)
    if sigma is not None:
        settings = {"sigma": sigma, "n": n, "random_state": seed, "verbose": int(verbose)}
        smoothed = SmoothedClassifier(FrozenEstimator(model), **settings).fit(X, y)
        classes, radii = smoothed.certify(X)
        known = columns_of(classes_of(model.classes_), y) >= 0  # abstaining may look like a label
        right = agreed(classes, y) & known
        rows[f"smoothed, sigma {sigma:g}"] = right
        rows[f"smoothed, sigma {sigma:g}, certified"] = right & (radii >= eps)
    table = [{"name": name, "accuracy": 100 * float(np.mean(row))} for name, row in rows.items()]
    checks = _checks(model, X, y, found, eps, steps, {**options, "verbose": verbose})
    return _Report(table=_framed(table), checks=checks, robust=found.robust)


class _Report(Bunch):
    """The report, which prints as text."""

    def __str__(self):
        rows = self.table if isinstance(self.table, list) else self.table.to_dict("records")
        lines = [f"{row['accuracy']:7.2f} %  {row['name']}" for row in rows]
        checks = [f"{'pass' if ok else 'fail':>7}    {name}" for name, ok in self.checks.items()]
        return "\n".join([*lines, *checks])


def _checks(estimator, X, y, found, eps, steps, options):
    def accuracy(name, size, **more):
        result = run_attack(estimator, X, y, name, eps=size, **options, **more)
        return float((result.correct & ~result.success).mean())

    by_steps = [accuracy("pgd", eps, steps=s) for s in (max(1, steps // 8), steps, 2 * steps)]
    strongest = "flips" if "flips" in found.success else "apgd-ce"
    more = {} if strongest == "flips" else {"steps": steps}
    by_budget = [accuracy(strongest, eps * part, **more) for part in (0.25, 0.5, 1.0)]
    values = np.asarray(X, dtype=np.float64)
    spread = float(values.max() - values.min())
    whole = 4 * spread * (np.sqrt(values[0].size) if options["norm"] == "l2" else 1.0)
    success = found.success
    black = [s for name, s in success.items() if name.split()[0] in ("noise", "square")]
    white = np.any(
        [s for name, s in success.items() if name.split()[0] not in ("noise", "square")], axis=0
    )
    checks = {
        "more steps never weaker": by_steps == sorted(by_steps, reverse=True),
        "success is monotone in the budget": by_budget == sorted(by_budget, reverse=True),
        "white box at least as strong as black box": bool(
            white.sum() >= max(s.sum() for s in black)
        ),
        "random search finds nothing that gradients miss": not bool((black[0] & ~white).any()),
        "an unbounded budget leaves nothing": accuracy(strongest, whole, **more) == 0.0,
    }
    if has_tokens(estimator):
        checks["tokens were searched, which needs L2 without bounds"] = "flips" in success
    return checks


def _framed(table):
    try:
        import pandas as pd
    except ImportError:
        return table
    return pd.DataFrame(table)
