"""The attack with stickers, judged by the classifier itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.attacks.evaluation import agreed, columns_of, seed_of, unwrapped
from sklearn_patchcert.attacks.stickers.batches import Batch, Plan
from sklearn_patchcert.attacks.stickers.targets import Palette, judge_of, target_of
from sklearn_patchcert.attacks.stickers.windows import boxes_of
from sklearn_patchcert.attacks.views.classifiers import case_of, geometry_of
from sklearn_patchcert.attacks.views.tokenized_network import GRADIENTS
from sklearn_patchcert.checks import (
    check_bounds,
    check_choice,
    check_count,
    check_inside,
    check_norm,
    check_number,
    sticker_sizes,
)

METHODS = ("gradient", "search")


@quiet()  # the images were judged when the case was made; what an attack makes of them is not
def run_sticker_attack(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sticker_size: Any = None,
    *,
    n_stickers: int | None = None,
    places: str = "greedy",
    n_places: int | None = 8,
    certified_places: ArrayLike | None = None,
    method: str = "all",
    steps: int = 40,
    restarts: int = 1,
    n_trials: int = 4,
    n_views: int = 16,
    max_queries: int | None = None,
    share: float = 0.99,
    norm: str | float = "l2",
    gradient: str = "bpda",
    temperature: float = 1.0,
    bounds: tuple[float, float] | None = None,
    source: Any = None,
    random_state: int | np.random.RandomState | None = 0,
    batch_size: int = 512,
    verbose: bool = False,
) -> Bunch:
    """Attack a fitted classifier with stickers, and all other patches within their radii.

    Each image gets a sticker at one place after the other.  The pixels of the sticker follow the
    gradient, and then a search over tokens, or over rectangles of one color if there is no
    vocabulary.  With several stickers, an image that withstands a sticker gets another one at the
    place where its gradient is largest then, and all of them change together.

    Against a :class:`StickerCertifiedClassifier` the pixels are chosen against double masking
    itself.  First, all masks that do not hide the stickers are to agree on one wrong class.  Then,
    if the answers behind two masks on the clean image allow it, one mask is to decide for a wrong
    class.  The classifier judges the images as they are.

    Parameters
    ----------
    estimator : fitted classifier
        A StickerCertifiedClassifier is attacked behind its masks.  Searches, FrozenEstimators and
        pipelines around it are looked through.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    sticker_size : int, tuple (height, width), list of these, or None
        In pixels.  A list names several sizes, of which each image gets one.  None: that of the
        estimator.
    n_stickers : int or None
        How many there may be on an image.  None: as many as the estimator is certified against,
        else one.
    places : {"greedy", "random"}
        Which places come first: those where the clean image has the largest gradient, or any.
    n_places : int or None
        Places that are tried on each image.  None: all.
    certified_places : array-like of bool (n, rows, cols) or None
        ``certify(X).places``.  All places that are not certified are tried first, by each sticker.
    method : {"all", "gradient", "search"}
        How the pixels are found.  "all": by the gradient if there is one, and then by search.
    steps : int
        Of the gradient, and of the search, at each place.
    restarts : int
        How often all places are tried, each time with other pixels to start from.
    n_trials : int
        Changes among which each step of the search chooses.
    n_views : int
        Masks behind which the loss of an image is taken, drawn for each place.
    max_queries : int or None
        See `n_queries` below.
    share : float
        How far each patch that no sticker touches moves, as a share of its radius below 1.
        About half move towards the nearest wall, the others in a random direction.  0: none moves.
        Patches move only if there is a vocabulary whose tokens are masked or not masked at all.
    norm : {"l2", "linf", "l1"}
        The norm, within a patch, of the radii.
    gradient : {"bpda", "soft", "none"}
        Of the tokens, see :func:`attacks.as_torch_module`.
    temperature : float
        Of "soft".
    bounds : tuple (low, high) or None
        Of valid values; X must lie within them.  None: the smallest and the largest value of X.
    source : fitted classifier or None
        Attack this one and only judge by `estimator`: a transfer attack.
    random_state : int, RandomState or None
    batch_size : int
        Masked images to predict at once, fewer if they are large.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    result : Bunch
        ``success`` (n,): classified correctly before, and misclassified now; ``adversarial``, of
        the shape of X, float32 where X is float32 or float16, else float64, the image itself where
        nothing was found; ``places`` (n, 2), the upper left pixel of the sticker, and ``sizes``
        (n, 2), its height and width, both -1 if nothing was found.  With several stickers, both
        are (n, n_stickers, 2), and -1 for stickers that were not needed; ``correct`` (n,):
        classified correctly before; ``n_queries`` (n,): attacked images that were evaluated, by
        their gradient, by their loss or by `predict`, whatever the number of masks.

    Raises
    ------
    ValueError
        If an option is out of range, X does not lie within `bounds`, or labels do not fit X or the
        classes.
    TypeError
        If an option is of another type, or ``method="gradient"`` and there is no gradient.

    Warns
    -----
    UserWarning
        If ``method="all"`` and the gradient of a torch network cannot be used, for example because
        `predict` does not answer its largest logit.

    Notes
    -----
    An image that withstands the attack is not certified.  With more places, restarts or queries,
    images that were misclassified with fewer still are.

    Stickers lie inside the image.  What one sticker breaks, two break as well, if `max_queries` is
    None.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.attacks import run_sticker_attack
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> found = run_sticker_attack(net, X[500:510], y[500:510], 3, steps=10)
    >>> bool(found.success.any())
    True
    """
    check_choice("places", places, ("greedy", "random"))
    check_choice("method", method, ("all", *METHODS))
    check_choice("gradient", gradient, GRADIENTS)
    check_number("temperature", temperature, positive=True)
    share = check_number("share", share)
    if share >= 1:
        raise ValueError(f"share must be below 1, got {share:g}: no patch reaches its radius.")
    counts = {"steps": steps, "restarts": restarts, "n_trials": n_trials, "n_views": n_views}
    options: dict = {name: check_count(name, value) for name, value in counts.items()}
    for name, value in (("n_places", n_places), ("max_queries", max_queries)):
        options[name] = None if value is None else check_count(name, value)
    options |= {"share": share, "norm": check_norm(norm, ("l2", "linf", "l1"))}
    options |= {"seed": seed_of(random_state), "greedy": places == "greedy"}
    bounds, batch_size = check_bounds(bounds), check_count("batch_size", batch_size)
    case = case_of(estimator, X, y)
    model = case.estimator
    attacked = model if source is None else unwrapped(source)
    for name, one in (("estimator", model), ("source", attacked)):
        if not hasattr(one, "classes_"):
            raise TypeError(f"{name} must be a classifier, {type(one).__name__} has no classes_.")
    shape, _ = geometry_of(model, case.X.shape[1:])
    if n_stickers is None:
        n_stickers = getattr(model, "n_stickers", 1)
    options["n_stickers"] = check_count("n_stickers", n_stickers)
    boxes = boxes_of(_sizes(sticker_size, model), shape[:2])
    certified = _map_at(certified_places, boxes, len(case.X), shape, model)
    limits = float(case.X.min()), float(case.X.max())
    if bounds is not None:
        check_inside(bounds, *limits)
        limits = bounds
    with torch.inference_mode(False):
        target = target_of(attacked, case, gradient, temperature, batch_size, method=method)
        kinds: tuple = METHODS if method == "all" else (method,)
        kinds = tuple(kind for kind in kinds if kind != "gradient" or target.has_gradient)
        plan = Plan(
            case, target, judge_of(model), Palette(attacked, shape, limits), boxes, shape, limits,
            kinds, options,
        )  # fmt: skip
        return _attacked(plan, certified, columns_of(target.classes, case.y), verbose)


def _sizes(sticker_size, model):
    if sticker_size is None:
        sticker_size = getattr(model, "sticker_size", None)
        if sticker_size is None:
            raise ValueError(
                f"sticker_size must be given, since {type(model).__name__} does not have one."
            )
    return sticker_sizes(sticker_size)


def _map_at(places, boxes, n_images, shape, model):
    """Whether each box (n, n_boxes) begins at a certified place."""
    if places is None:
        return None
    cell = tuple(getattr(model, "cell_size_", (1, 1)))
    grid = tuple(-(-side // one) for side, one in zip(shape, cell, strict=False))
    found = np.asarray(places)
    if found.shape != (n_images, *grid) or found.dtype != bool:
        raise ValueError(
            f"certified_places must be bool of shape {(n_images, *grid)}, as certify(X).places, "
            f"got {found.dtype} of shape {found.shape}."
        )
    return found[:, boxes[:, 0] // cell[0], boxes[:, 1] // cell[1]]


def _attacked(plan, certified, labels, verbose):
    """The result, image batch by image batch."""
    case, n = plan.case, len(plan.case.X)
    adversarial, chosen = case.X.copy(), np.full((n, plan.options["n_stickers"], 4), -1)
    queries = np.zeros(n, dtype=np.int64)
    todo = np.flatnonzero(case.correct)
    if (labels[todo] < 0).any():
        unknown = np.unique(case.y[todo][labels[todo] < 0]).tolist()
        raise ValueError(f"source does not know all classes of the images: {unknown}.")
    size = max(1, plan.target.scores.at_once // 8)
    with tqdm(desc="sticker", total=len(todo), unit="image", disable=not verbose) as bar:
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            batch = Batch(plan, part, labels[part], None if certified is None else certified[part])
            batch.run(bar)
            adversarial[part], chosen[part] = batch.adversarial, batch.chosen
            queries[part] = batch.queries
    fooled = ~agreed(case.estimator.predict(case.given(adversarial)), case.y)
    success = case.correct & fooled
    adversarial[~success], chosen[~success] = case.X[~success], -1
    chosen = chosen[:, 0] if chosen.shape[1] == 1 else chosen
    return Bunch(
        success=success,
        adversarial=adversarial,
        places=chosen[..., :2],
        sizes=chosen[..., 2:],
        correct=case.correct.copy(),
        n_queries=queries,
    )
