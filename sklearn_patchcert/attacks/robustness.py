"""Attacks on fitted classifiers, judged by the classifier itself, and a report of all of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert.attacks import gradients
from sklearn_patchcert.attacks.token_attack import Tokens, flipped
from sklearn_patchcert.attacks.torch_modules import as_torch_module

ATTACKS: dict[str, Callable] = {
    "noise": gradients.noise,
    "square": gradients.square,
    "sspgd": gradients.sspgd,
    "pgd": gradients.pgd,
    "apgd-ce": functools.partial(gradients.apgd, loss="ce"),
    "apgd-dlr": functools.partial(gradients.apgd, loss="dlr"),
}
"""By name; "flips" is one more, for pipelines with a vocabulary."""

_BLACK_BOX = ("noise", "square")
_SHRUNK = 1 - 1e-6  # so that rounding to float32 leaves a perturbation within its norm


def run_attack(
    estimator,
    X,
    y,
    attack="apgd-ce",
    *,
    eps,
    norm="l2",
    gradient="bpda",
    temperature=1.0,
    bounds=None,
    source=None,
    random_state=0,
    batch_size=500,
    verbose=False,
    **options,
):
    """Attack a fitted classifier, and let it judge the result.

    Parameters
    ----------
    estimator : fitted classifier
        What has a gradient, see :func:`attacks.as_torch_module`, or, for "noise" and
        "square", anything with a `predict_proba`.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    attack : str or callable
        One of :data:`ATTACKS`, "flips", or a function with the signature of :mod:`attacks`.
    eps : float
        Norm of the perturbation of an image, in units of X.
    norm : {"l2", "linf"}
    gradient : {"bpda", "soft", "none"}
    temperature : float
        Of :func:`attacks.as_torch_module`.
    bounds : tuple (low, high) or None
        Of valid values of X.
    source : fitted classifier or None
        Attack this one instead and only judge by `estimator`: a transfer attack.
    random_state : int
    batch_size : int
    verbose : bool
        Whether to show a progress bar.
    **options
        Go to the attack, as `steps` or `restarts`.

    Returns
    -------
    result : Bunch
        ``adversarial``, of the shape of X, float32; ``success`` (n,): misclassified, and within eps
        as measured in float64; ``norms`` (n,); ``correct`` (n,): classified correctly before.

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
    check_is_fitted(estimator)
    attacked = estimator if source is None else source
    X, y = np.asarray(X), np.asarray(y)
    shape = _image_shape(attacked, X)
    images = X.reshape(-1, *shape).astype(np.float32)
    labels = np.searchsorted(attacked.classes_, y)
    correct = estimator.predict(X) == y
    made = images.copy()
    generator = torch.Generator().manual_seed(random_state)
    run: Callable
    if attack == "flips":
        if norm != "l2" or bounds is not None:
            raise ValueError('The attack "flips" is in L2 and without bounds.')
        run = functools.partial(_flip, attacked, eps=eps, **options)
    else:
        function = ATTACKS[attack] if isinstance(attack, str) else attack
        model = _model(attacked, attack, gradient, temperature)
        run = functools.partial(
            _in_torch, function, model, eps=eps * _SHRUNK, norm=norm, bounds=bounds,
            generator=generator, **options,
        )  # fmt: skip
    todo = np.flatnonzero(correct)
    name = attack if isinstance(attack, str) else "attack"
    with tqdm(desc=name, total=len(todo), unit="image", disable=not verbose) as bar:
        for start in range(0, len(todo), batch_size):
            part = todo[start : start + batch_size]
            made[part] = run(images[part], labels[part])
            bar.update(len(part))
    return _judged(estimator, X, y, made.reshape(X.shape), eps, norm, correct)


def _judged(estimator, X, y, adversarial, eps, norm, correct):
    delta = adversarial.astype(np.float64) - np.asarray(X, dtype=np.float64)
    flat = delta.reshape(len(X), -1)
    norms = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    fooled = estimator.predict(adversarial) != y
    return Bunch(
        adversarial=adversarial,
        success=correct & fooled & (norms <= eps),
        norms=norms,
        correct=correct,
    )


def _in_torch(function, model, images, labels, **options):
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    device = next((p.device for p in getattr(model, "parameters", list)()), torch.device("cpu"))
    found = function(model, batch.to(device), torch.from_numpy(labels).to(device), **options)
    return found.detach().cpu().permute(0, 2, 3, 1).numpy()


def _model(estimator, attack, gradient, temperature):
    try:
        return as_torch_module(estimator, gradient, temperature=temperature)
    except TypeError:
        if attack not in _BLACK_BOX or not hasattr(estimator, "predict_proba"):
            raise

    def scores(images):
        rows = images.permute(0, 2, 3, 1).numpy()
        if estimator.n_features_in_ == rows[0].size and not hasattr(estimator, "image_shape_"):
            rows = rows.reshape(len(rows), -1)
        return torch.from_numpy(np.log(np.maximum(estimator.predict_proba(rows), 1e-30)))

    return scores


def _image_shape(estimator, X):
    """(H, W, C) of the images that the estimator takes."""
    for step in [s for _, s in getattr(estimator, "steps", [("", estimator)])]:
        if hasattr(step, "image_shape_"):
            return step.image_shape_
    return (*X.shape[1:], 1, 1)[:3] if X.ndim < 4 else X.shape[1:]


def _flip(estimator, images, labels, *, eps, after=None, seed=0, **options):
    """Adversarial images by the search over tokens, after another attack where one is named."""
    tokens, far = Tokens(estimator, images), None
    if after is not None:
        generator = torch.Generator().manual_seed(seed)
        far = _in_torch(ATTACKS[after], tokens.module, images, labels, eps=eps, generator=generator)
    return flipped(tokens, images, labels, far, eps=eps, **options)


def reproject(estimator, X, adversarial):
    """Keep the tokens that an attack reached, and what it costs to reach them, and nothing else.

    Patches that kept their token go back; the others are moved as little as it takes.

    Parameters
    ----------
    estimator : fitted pipeline with a vocabulary and a torch network
    X, adversarial : ndarray (n, n_features), (n, H, W) or (n, H, W, C)

    Returns
    -------
    smaller : ndarray, the shape of X, float32
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
    X, adversarial = np.asarray(X), np.asarray(adversarial)
    shape = _image_shape(estimator, X)
    images, far = (a.reshape(-1, *shape).astype(np.float32) for a in (X, adversarial))
    tokens = Tokens(estimator, images)
    return tokens.moved(images, tokens.ids_of(far)).reshape(X.shape)


def worst_case(
    estimator, X, y, attack_list, *, eps, norm="l2", random_state=0, verbose=False, **shared
):
    """Run several attacks; an image stands only if it withstands all of them.

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
        Options for all.

    Returns
    -------
    result : Bunch
        ``success`` dict of name to (n,), ``correct`` (n,), ``robust`` (n,), ``norms`` (n,): the
        smallest norm of a successful attack, inf where there is none, 0 where none was needed.

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
    success, correct = {}, None
    smallest: Any = np.inf
    for entry in attack_list:
        name, options = entry if isinstance(entry, tuple | list) else (entry, {})
        label = name if isinstance(name, str) else getattr(name, "__name__", repr(name))
        label = " ".join([label, *(f"{k}={v}" for k, v in options.items() if k != "source")])
        found = run_attack(
            estimator, X, y, name, eps=eps, norm=norm, random_state=random_state, verbose=verbose,
            **{**_known(name, shared), **options},
        )  # fmt: skip
        correct = found.correct
        norms = np.where(found.success, found.norms, np.inf)
        smallest = np.minimum(smallest, norms)
        success[label] = found.success
    if correct is None:
        raise ValueError("attack_list is empty: name at least one attack.")
    robust = correct & ~np.any(list(success.values()), axis=0)
    norms = np.where(correct, smallest, 0.0)
    return Bunch(success=success, correct=correct, robust=robust, norms=norms)


def _known(name, options):
    """Those of the options that the attack takes."""
    if name == "flips":
        taken = {"greedy", "exact", "after"}
    else:
        function = ATTACKS[name] if isinstance(name, str) else name
        taken = set(inspect.signature(function).parameters)
        if name == "sspgd":
            taken |= set(inspect.signature(gradients.pgd).parameters) - {"steps"}
    of_runner = {"gradient", "temperature", "bounds", "batch_size", "source"}
    wanted = taken | (of_runner if name != "flips" else {"batch_size"})
    return {key: value for key, value in options.items() if key in wanted}
