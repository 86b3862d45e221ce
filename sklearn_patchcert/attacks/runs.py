"""One attack on one checked case: options, batches, and the judgement of the estimator itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.attacks import gradients
from sklearn_patchcert.attacks.budgets import norms_of, settled
from sklearn_patchcert.attacks.evaluation import agreed, columns_of, seed_of, unwrapped
from sklearn_patchcert.attacks.progress import Progress
from sklearn_patchcert.attacks.token_attack import Tokens, flipped, n_offers
from sklearn_patchcert.attacks.views.classifiers import is_constant, tensor, view_of
from sklearn_patchcert.attacks.views.tokenized_network import GRADIENTS
from sklearn_patchcert.checks import (
    check_bounds,
    check_choice,
    check_count,
    check_inside,
    check_norm,
    check_number,
)

ATTACKS: dict[str, Callable] = {
    "noise": gradients.noise,
    "square": gradients.square,
    "sspgd": gradients.sspgd,
    "pgd": gradients.pgd,
    "apgd-ce": functools.partial(gradients.apgd, loss="ce"),
    "apgd-dlr": functools.partial(gradients.apgd, loss="dlr"),
}
"""By name; "flips" is one more, for pipelines with a vocabulary."""

BLACK_BOX = ("noise", "square")
OF_RUNNER = frozenset({"gradient", "temperature", "bounds", "batch_size", "source"})
_OF_FLIPS = {"after", "exact", "steps", "greedy"}
_SHRUNK = 1 - 1e-6  # so that what rounding takes beyond the ball is little
_VALUES_AT_ONCE = 2**22  # of images that are attacked together, whatever the size of a batch
_OFFERS_AT_ONCE = 2**25  # tokens times patches of images that are searched together: 8 bytes each
_PRICING = 0.2  # of the work of a search, about
_PASSES = 256  # of a search, about, after its steps
_OFFSET = 1e-4  # of the range of X: a grid of float32 that is coarser loses the images, too
_GIVEN = {"eps", "norm", "generator", "bounds"}


def check_attack(attack):
    """Return an attack, a known name or a function."""
    known = (*ATTACKS, "flips")
    if not callable(attack) and not (isinstance(attack, str) and attack in known):
        raise ValueError(f"attack must be one of {known} or a function, got {attack!r}.")
    return attack


def options_of(attack):
    """Names of the options that an attack takes itself; None where it takes any."""
    if attack == "flips":
        return set(_OF_FLIPS)
    function = ATTACKS[attack] if isinstance(attack, str) else attack
    if function is gradients.sspgd:
        return options_of("pgd") - {"steps"}
    try:
        parameters = list(inspect.signature(function).parameters.values())[3:]
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters} - _GIVEN - set(getattr(function, "keywords", ()))


def check_names(attack, options, known=frozenset()):
    """Refuse options that an attack does not take."""
    taken = options_of(attack)
    allowed = set(options) - _GIVEN if taken is None else taken
    unknown = sorted(set(options) - allowed - known)
    if unknown:
        name = attack if isinstance(attack, str) else getattr(attack, "__name__", repr(attack))
        raise TypeError(
            f"The attack {name!r} takes no option {', '.join(unknown)}; it takes "
            f"{', '.join(sorted((taken or set()) | known)) or 'others'}."
        )


@quiet()  # the images were judged when the case was made; what an attack makes of them is not
def attacked(
    case,
    attack,
    *,
    eps,
    norm,
    gradient="bpda",
    temperature=1.0,
    bounds=None,
    source=None,
    random_state=0,
    batch_size=500,
    verbose=False,
    **options,
):
    """Run an attack on a case; parameters and result are those of robustness.run_attack."""
    check_names(check_attack(attack), options)
    eps, norm, bounds = check_number("eps", eps), check_norm(norm), check_bounds(bounds)
    check_choice("gradient", gradient, GRADIENTS)
    check_number("temperature", temperature, positive=True)
    batch_size = check_count("batch_size", batch_size)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    if attack == "flips":
        if norm != "l2" or bounds is not None:
            raise ValueError('The attack "flips" is in norm="l2" and without bounds.')
        if options.get("after") is not None:
            check_choice("after", options["after"], ATTACKS)
    if bounds is not None:
        if case.dtype.kind == "f":
            bounds = tuple(float(case.dtype.type(value)) for value in bounds)
        check_inside(bounds, float(case.X.min()), float(case.X.max()))
    todo, X = np.flatnonzero(case.correct), case.X
    adversarial, target = X.copy(), case.estimator if source is None else unwrapped(source)
    if not hasattr(target, "classes_"):
        raise TypeError(f"{type(target).__name__} has no classes_: it is no classifier.")
    if len(todo) and (source is not None or not is_constant(target)):
        with torch.inference_mode(False):
            view = view_of(target, case, gradient, temperature, black_box=attack in BLACK_BOX)
            labels = columns_of(view.classes, case.y)
            if (labels[todo] < 0).any():
                raise ValueError(
                    "source does not know all classes of the images: "
                    f"{np.unique(case.y[todo][labels[todo] < 0]).tolist()}."
                )
            name = attack if isinstance(attack, str) else "attack"
            images = view.images(X, X.dtype if attack == "flips" else np.float32)
            if attack != "flips":
                _check_not_lost(X, eps, norm)
            size = max(1, min(batch_size, _VALUES_AT_ONCE // X[0].size))
            with (
                Progress(name, len(todo), verbose) as progress,
                progress.watching(view.scores) as scores,
            ):
                run = _runner(
                    view._replace(scores=scores), attack, eps, norm, bounds, generator, options,
                    progress,
                )  # fmt: skip
                for start in range(0, len(todo), size):
                    part = todo[start : start + size]
                    made = view.as_given(run(images[part], labels[part]), X[part].shape)
                    adversarial[part] = settled(X[part], made, eps, norm, bounds)
        if not isinstance(attack, str):
            case.views.clear()  # it had the modules in hand, and the next attack needs them whole
    norms = norms_of(X, adversarial, norm)
    fooled = ~agreed(case.estimator.predict(case.given(adversarial)), case.y)
    return Bunch(
        adversarial=adversarial,
        success=case.correct & fooled & (norms <= eps),
        norms=norms,
        correct=case.correct.copy(),
    )


def _check_not_lost(X, eps, norm):
    """Refuse steps that an attack in float32 would lose beside an offset that X has finer."""
    if X.dtype != np.float64 or not X.size or not eps:
        return
    largest, step = float(np.abs(X).max()), eps / np.sqrt(X[0].size) if norm == "l2" else eps
    coarse = float(np.spacing(np.float32(largest)))
    if step < coarse and coarse > _OFFSET * float(np.ptp(X)):
        raise ValueError(
            f"eps={eps:g} is lost beside values of {largest:g}: attacks compute in "
            'float32, but for "flips". Move X nearer to 0, for example by a scaler outside of what '
            "is attacked."
        )


def _passes(attack, options):
    """How often an attack asks the network about a batch; None where nobody knows."""
    if not isinstance(attack, str):
        return None
    given = {"steps": 1, **options} if attack == "sspgd" else options
    function = gradients.pgd if attack == "sspgd" else ATTACKS[attack]
    known = inspect.signature(function).parameters
    steps, restarts = (
        check_count(name, given.get(name, known[name].default if name in known else 1))
        for name in ("steps", "restarts")
    )
    return restarts * (steps + (attack not in BLACK_BOX))


def _runner(view, attack, eps, norm, bounds, generator, options, progress):
    """Function of images (n, H, W, C) and labels that gives images."""
    if attack == "flips":
        return functools.partial(
            _flip, view, eps=eps, generator=generator, progress=progress, **options
        )
    function = ATTACKS[attack] if isinstance(attack, str) else attack
    settings: dict[str, Any] = {"eps": eps * _SHRUNK, "norm": norm, "generator": generator}

    def run(images, labels):
        with progress.batch(len(images), _passes(attack, options)):
            return _in_torch(function, view, images, labels, bounds=bounds, **settings, **options)

    return run


def _in_torch(function, view, images, labels, **options):
    batch = tensor(images, view.device)
    found = function(view.scores, batch, torch.from_numpy(labels).to(view.device), **options)
    if not isinstance(found, torch.Tensor) or found.shape != batch.shape:
        raise ValueError(
            f"The attack must return a Tensor of shape {tuple(batch.shape)}, it returned "
            f"{tuple(found.shape) if hasattr(found, 'shape') else found!r}."
        )
    return found.detach().cpu().permute(0, 2, 3, 1).float().numpy()


def _flip(view, images, labels, *, eps, generator, progress, after=None, **options):
    """Adversarial images by the search over tokens, after another attack where one is named."""
    made = np.empty_like(images)
    size = max(1, _OFFERS_AT_ONCE // n_offers(view.module, images.shape[1:]))
    for start in range(0, len(images), size):
        part, far = slice(start, start + size), None
        passes = (
            4 * check_count("steps", options.get("steps", 30), 0)
            + _PASSES
            + ((after and _passes(after, {})) or 0)
        )
        with progress.batch(len(images[part]), passes / (1 - _PRICING)):
            tokens = Tokens(
                view.module, images[part], lambda found: progress.told(view.read(found))
            )
            if after is not None:
                settings = {"eps": eps, "generator": generator}
                far = images[part].astype(np.float32)
                far = _in_torch(ATTACKS[after], view, far, labels[part], **settings)
            made[part] = flipped(
                tokens, images[part], labels[part], far, eps=eps,
                tick=lambda share: progress.share(_PRICING * share), **options,
            )  # fmt: skip
    return made
