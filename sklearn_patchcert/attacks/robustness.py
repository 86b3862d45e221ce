"""Attacks on fitted classifiers, judged by the classifier itself, and a report of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.attacks.budgets import settled
from sklearn_patchcert.attacks.evaluation import evaluated, has_tokens, seed_of
from sklearn_patchcert.attacks.runs import (
    ATTACKS,
    OF_RUNNER,
    attacked,
    check_attack,
    check_names,
    options_of,
)
from sklearn_patchcert.attacks.token_attack import Tokens
from sklearn_patchcert.attacks.views.classifiers import as_floats, case_of, geometry_of
from sklearn_patchcert.checks import check_norm

if TYPE_CHECKING:
    import torch

__all__ = ["ATTACKS", "reproject", "run_attack", "worst_case"]

_OF_ENTRY = OF_RUNNER | {"random_state", "verbose"}


def run_attack(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    attack: str | Callable[..., torch.Tensor] = "apgd-ce",
    *,
    eps: float,
    norm: str | float = "l2",
    gradient: str = "bpda",
    temperature: float = 1.0,
    bounds: tuple[float, float] | None = None,
    source: Any = None,
    random_state: int | np.random.RandomState | None = 0,
    batch_size: int = 500,
    verbose: bool = False,
    **options: Any,
) -> Bunch:
    """Attack a fitted classifier, which judges the result itself.

    Parameters
    ----------
    estimator : fitted classifier, or torch.nn.Module
        One that has a gradient, see :func:`attacks.as_torch_module`, or, for "noise" and
        "square", any classifier with a `predict_proba`.  Searches, FrozenEstimators and pipelines
        around it are looked through.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        Networks of skorch's own classes are given X as it is; with four axes the first after the
        images is then taken for the channels.
    y : array-like (n,) or (n, 1)
    attack : str or callable
        One of :data:`ATTACKS`, "flips", or a function with the signature of :mod:`attacks`.
    eps : float
        Norm of the perturbation of an image, in units of X.
    norm : {"l2", "linf"}
        Also in the spelling of other libraries: "L2" or 2, "Linf", "inf" or np.inf.
    gradient : {"bpda", "soft", "none"}
    temperature : float
        Of :func:`attacks.as_torch_module`.
    bounds : tuple (low, high) or None
        Of valid values; X must lie within them.
    source : fitted classifier or None
        Attack this one instead and only judge by `estimator`: a transfer attack.
    random_state : int, RandomState or None
    batch_size : int
        Images that are attacked together, at most: of large images, fewer are.
    verbose : bool
        Whether to show a progress bar.  Within an image it moves by the share of the work that is
        done, which is a guess: a search that succeeds early leaps to the end.
    **options
        Go to the attack, as `steps` or `restarts`.

    Returns
    -------
    result : Bunch
        ``adversarial``, of the shape of X, float32 where X is float32 or float16, else float64;
        ``success`` (n,): classified correctly before and misclassified now, within eps as measured
        in float64 from X itself; ``norms`` (n,); ``correct`` (n,): classified correctly before.
        The accuracy under attack is ``(correct & ~success).mean()``.

    Raises
    ------
    ValueError
        If an option is out of range, X does not lie within `bounds`, labels do not fit X or the
        classes, or `predict` answers something else than the largest logit of the network.
    TypeError
        If an option is unknown or of another type, or the classifier has no gradient.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.attacks import run_attack
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> found = run_attack(net, X[500:550], y[500:550], "pgd", eps=4.0, steps=10)
    >>> bool(found.success.any()), bool((found.norms <= 4.0).all())
    (True, True)
    """
    settings = {"eps": eps, "norm": norm, "gradient": gradient, "temperature": temperature}
    return attacked(
        case_of(estimator, X, y), attack, bounds=bounds, source=source, random_state=random_state,
        batch_size=batch_size, verbose=verbose, **settings, **options,
    )  # fmt: skip


def reproject(estimator: Any, X: ArrayLike, adversarial: ArrayLike) -> NDArray[Any]:
    """Keep the tokens that an attack reached, and move each changed patch as little as possible.

    Patches that kept their token go back; the others are moved as little as it takes.

    Parameters
    ----------
    estimator : fitted pipeline with a vocabulary and a torch network
    X, adversarial : ndarray (n, n_features), (n, H, W) or (n, H, W, C)

    Returns
    -------
    smaller : ndarray, the shape of X, float32 where X is float32 or float16, else float64
        Of the same tokens; its L2 perturbation is at most as large, but for rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import CertifiedPatchClassifier
    >>> from sklearn_patchcert.attacks import reproject
    >>> X, y = load_digits(return_X_y=True)
    >>> model = CertifiedPatchClassifier().set_params(
    ...     vocab__n_tokens=8, vocab__strategy="kmeans", clf__max_epochs=1
    ... )
    >>> _ = model.fit(X[:200], y[:200])
    >>> far = X[:5] + np.random.default_rng(0).normal(scale=3.0, size=(5, 64))
    >>> near = reproject(model, X[:5], far)  # of the same tokens
    >>> bool((model["vocab"].tokenize(near) == model["vocab"].tokenize(far)).all())
    True
    >>> bool((np.linalg.norm(near - X[:5], axis=1) < np.linalg.norm(far - X[:5], axis=1)).all())
    True
    """
    check_is_fitted(estimator)
    model, images, _ = evaluated(estimator, X, labels=False)
    given, far = as_floats(np.asarray(images)), as_floats(np.array(adversarial), "adversarial")
    if far.shape != given.shape:
        raise ValueError(f"adversarial must be of the shape of X, {given.shape}, got {far.shape}.")
    shape, _ = geometry_of(model, given.shape[1:])
    images = given.reshape(-1, *shape).astype(np.float32)
    tokens = Tokens(model, images)
    moved = tokens.moved(images, tokens.ids_of(far.reshape(images.shape)))
    return settled(given, moved.reshape(given.shape), np.inf, "l2")


def worst_case(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    attack_list: Sequence[Any],
    *,
    eps: float,
    norm: str | float = "l2",
    random_state: int | np.random.RandomState | None = 0,
    verbose: bool = False,
    **shared: Any,
) -> Bunch:
    """Run several attacks; an image is robust only if it withstands all of them.

    Parameters
    ----------
    estimator, X, y
        As for :func:`run_attack`.
    attack_list : sequence of str, callable, (str, dict) or (callable, dict)
        Attacks as :func:`run_attack` knows them, with options for each.
    eps, norm, random_state
        As for :func:`run_attack`.
    verbose : bool
        Whether to show a progress bar for each attack.
    **shared
        Options for all attacks that take them.

    Returns
    -------
    result : Bunch
        ``success`` dict of name to (n,); a name that comes again gets a number, as "pgd (2)";
        ``correct`` (n,), ``robust`` (n,), ``norms`` (n,): the smallest norm of a successful
        attack, inf where there is none, 0 where none was needed.

    Raises
    ------
    ValueError, TypeError
        As for :func:`run_attack`, before the first attack runs if the list or an option's name is
        wrong.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.attacks import worst_case
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> attacks = ["noise", ("pgd", {"steps": 10})]
    >>> found = worst_case(net, X[500:550], y[500:550], attacks, eps=4.0)
    >>> bool((found.robust == found.correct & (found.norms > 4.0)).all())
    True
    """
    entries = _entries(attack_list)
    _check_shared(entries, shared)
    settings = {"eps": eps, "norm": norm, "random_state": seed_of(random_state)}
    case = case_of(estimator, X, y)
    success: dict[str, np.ndarray] = {}
    smallest = np.full(len(case.y), np.inf)
    for attack, options in entries:
        found = attacked(
            case, attack, **{**settings, "verbose": verbose, **_taken(attack, shared), **options}
        )
        success[_label(attack, options, success)] = found.success
        smallest[found.success] = np.minimum(smallest, found.norms)[found.success]
    return Bunch(
        success=success,
        correct=case.correct,
        robust=case.correct & np.isinf(smallest),
        norms=np.where(case.correct, smallest, 0.0),
    )


def knows_flips(estimator, norm="l2", bounds=None):
    """Whether the attack "flips" searches over the tokens of an estimator, in this threat."""
    return check_norm(norm) == "l2" and bounds is None and has_tokens(estimator)


def _entries(attack_list):
    """Pairs of an attack and its options, whose names are those that it takes."""
    if isinstance(attack_list, str | Mapping) or not isinstance(attack_list, Iterable):
        raise TypeError(f"attack_list must be a list, such as ['pgd'], got {attack_list!r}.")
    entries = []
    for entry in attack_list:
        pair = entry if isinstance(entry, tuple | list) else (entry, {})
        if len(pair) != 2 or not isinstance(pair[1], Mapping):
            raise ValueError(
                f"attack_list has {entry!r}: an entry is an attack, or a pair of it and a dict of "
                "its options."
            )
        attack, options = pair
        check_names(check_attack(attack), options, _OF_ENTRY)
        entries.append((attack, dict(options)))
    if not entries:
        raise ValueError("attack_list is empty: name at least one attack.")
    return entries


def _check_shared(entries, shared):
    """Refuse options that none of the attacks takes."""
    taken = set().union(*(_taken(attack, shared) for attack, _ in entries))
    unknown = sorted(set(shared) - taken)
    if unknown:
        raise TypeError(f"No attack in attack_list takes the option {', '.join(unknown)}.")


def _taken(attack, shared):
    """Those of the options for all that an attack takes."""
    taken = options_of(attack)
    if attack == "flips":
        taken -= {"steps"}  # of gradients; the search over tokens counts others
    return {k: v for k, v in shared.items() if taken is None or k in taken | OF_RUNNER}


def _label(attack, options, known):
    """A name for an attack that no other has."""
    name = attack if isinstance(attack, str) else getattr(attack, "__name__", repr(attack))
    name = " ".join([name, *(f"{k}={v}" for k, v in options.items() if k != "source")])
    label, number = name, 1
    while label in known:
        number += 1
        label = f"{name} ({number})"
    return label
