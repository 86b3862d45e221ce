"""A classifier as the attack with a sticker sees it: scores behind masks, tokens, radii.

A classifier that decides by double masking is known by its attributes `masks_` and `mask_values_`,
as StickerCertifiedClassifier has them.  All others are asked for the image as it is.
"""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from sklearn_patchcert.attacks.evaluation import agreed, columns_of, steps_of, unwrapped
from sklearn_patchcert.attacks.stickers.contents import Scores
from sklearn_patchcert.attacks.views.classifiers import geometry_of, view_of
from sklearn_patchcert.datasets.readers import reader_of
from sklearn_patchcert.preprocessing import IDENTITY, then
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.vocabulary.tokenizer import PatchTokenizer

_VALUES_AT_ONCE = 2**22  # of masked images, whatever the batch size
_LEAST = 1e-30  # of a probability


class Target(NamedTuple):
    """What the attack asks a classifier for."""

    scores: Scores
    classes: np.ndarray  # of the scores
    device: Any
    has_gradient: bool


def target_of(model, case, gradient, temperature, batch_size, *, method):
    """The scores of a classifier, with a gradient if it has one.

    Parameters
    ----------
    model : fitted classifier
        That of the case, or the source of a transfer attack.
    case : Case
    gradient, temperature
        As for :func:`torch_modules.as_torch_module`.
    batch_size : int
        Masked images to ask for at once, at most.
    method : {"all", "gradient", "search"}
        Refuse a classifier that has no gradient, if it is "gradient".

    Returns
    -------
    target : Target

    Raises
    ------
    TypeError, ValueError
        As :func:`classifiers.view_of`, if there must be a gradient.

    Warns
    -----
    UserWarning
        If it is a torch network, no gradient can be used, and the method is "all".
    """
    masked = is_masked(model)
    inner = unwrapped(model.estimator_) if masked else model
    shape, _ = geometry_of(model, case.X.shape[1:])
    at_once = min(batch_size, max(1, _VALUES_AT_ONCE // int(np.prod(shape))))
    masks, fill = torch.zeros(1, *shape[:2], dtype=torch.bool), None
    if masked:
        masks = torch.from_numpy(in_pixels(model.masks_, model.cell_size_, shape))
    try:
        if masked:
            predicted = inner.predict(case.given(case.X))
            right = agreed(predicted, case.y)
            case = case._replace(estimator=inner, predicted=predicted, correct=right, views={})
        view = view_of(inner, case, gradient, temperature)
    except (TypeError, ValueError) as error:
        if method == "gradient":
            raise
        last = steps_of(inner)[-1]
        if method == "all" and hasattr(last, "module_"):  # others have none, as their user knows
            reason = str(error).split(". ")[0]  # what follows tells of other attacks
            warnings.warn(
                f"The network of {type(last).__name__} is attacked without its gradient, by search "
                f"alone, so the attack may find less than it could: {reason}.",
                UserWarning,
                stacklevel=4,
            )
        ask = _of_rows(model, case, shape)
        return Target(Scores(ask, masks, at_once), np.asarray(model.classes_), "cpu", False)
    device = view.device
    if masked:
        values = np.array(model.mask_values_, dtype=np.float32).reshape(shape)
        fill = torch.from_numpy(values).permute(2, 0, 1).to(device)
    behind = masked and model.mask_space_ == "tokens"
    ask = partial(_masked_scores, view, fill, behind)
    return Target(Scores(ask, masks.to(device), at_once), view.classes, device, True)


def _masked_scores(view, fill, in_tokens, images, hidden):
    """Logits of images (m, C, H, W) behind pixels (m, 1, H, W) of their tokens or of themselves."""
    if fill is None:
        return view.scores(images)
    if not in_tokens:
        return view.scores(torch.where(hidden, fill, images))
    module = view.module
    made = module.discretised(module.scaled(images))
    return view.read(module.answers(torch.where(hidden, fill.to(made), made)))


def _of_rows(model, case, shape):
    """Log-probabilities, or answers as such, of a classifier without a gradient."""
    masked, classes = is_masked(model), np.asarray(model.classes_)
    view: Any = model._view() if masked else None
    last = view.rest if masked else model

    def ask(images, hidden):
        made = images.permute(0, 2, 3, 1).cpu().numpy().astype(case.X.dtype)
        rows = case.given(made.reshape(len(made), *case.X.shape[1:]))
        if masked:
            cells = hidden[:, 0, :: view.patch_size[0], :: view.patch_size[1]].flatten(1).numpy()
            given = model._given(view, rows, made)
            rows = view.masked(given, model.mask_values_, np.arange(len(made)), cells)
        if hasattr(last, "predict_proba"):
            found = np.asarray(last.predict_proba(rows), dtype=np.float64)
        else:
            found = np.eye(len(classes))[columns_of(classes, np.asarray(last.predict(rows)))]
        return torch.from_numpy(np.log(np.maximum(found, _LEAST)))

    return ask


def is_masked(model):
    """Whether a classifier decides by double masking."""
    return hasattr(model, "masks_") and hasattr(model, "mask_values_")


def in_pixels(masks, cell, shape):
    """Masks (n, rows, cols) of cells as masks (n, H, W) of pixels."""
    return masks.repeat(cell[0], 1).repeat(cell[1], 2)[:, : shape[0], : shape[1]].copy()


def judge_of(model):
    """The predictions of a classifier; of one that remembers decisions, a copy that has none."""
    if is_masked(model):
        model = copy.copy(model)
        model.set_params(verbose=0)
    return model.predict


class Palette:
    """Proposals of new pixels for a part of a sticker.

    With a vocabulary, the pixels of a random token at a patch that the sticker touches; otherwise a
    random rectangle of one extreme or random color.

    Parameters
    ----------
    model : fitted classifier
    shape : tuple (H, W, C)
    bounds : tuple (low, high)
    """

    def __init__(self, model, shape, bounds):
        self.shape, self.bounds = shape, bounds
        self.tokens: Any = None
        inside = unwrapped(model.estimator_) if is_masked(model) else model
        affine = IDENTITY
        before = steps_of(inside)[:-1]
        for step in before[reader_of(before) is not None :]:
            if isinstance(step, PatchTokenizer):
                self._take(step, affine)
                return
            try:
                affine = then(affine, step, shape, np.float32)
            except (TypeError, ValueError):
                return  # what it does is not known, and rectangles are left

    def _take(self, vocabulary, affine):
        scale, shift = (np.broadcast_to(part, self.shape) for part in affine[:2])
        if not np.abs(scale).min() > 0:
            return
        size, own = vocabulary.patch_size_, bool(vocabulary.per_channel_)
        groups = self.shape[2] if own else 1
        count = vocabulary.vocabulary_.shape[-2]
        ids = np.arange(count).repeat(groups).reshape(count, 1, 1, groups)
        self.tokens = encoding.decode(
            ids, vocabulary.vocabulary_, (*size, self.shape[2]), size, per_channel=own
        )
        self.size, self.own, self.scale, self.shift = size, own, scale, shift

    def propose(self, box, generator):
        """A part of a box, and its new pixels.

        Parameters
        ----------
        box : ndarray of int (4,)
            Top, left, height and width.
        generator : numpy.random.Generator

        Returns
        -------
        part : tuple of int (4,)
        content : ndarray of float32 (height, width, C)
        """
        top, left, height, width = (int(one) for one in box)
        if self.tokens is None:
            return self._rectangle(top, left, height, width, generator)
        ph, pw = self.size
        row = int(generator.integers(top // ph, (top + height - 1) // ph + 1))
        col = int(generator.integers(left // pw, (left + width - 1) // pw + 1))
        return self._token(row, col, (top, left, height, width), generator)

    def start(self, box, generator, in_noise):
        """Pixels (height, width, C) of a whole sticker: noise, or a random token at each patch."""
        top, left, height, width = (int(one) for one in box)
        noise = generator.uniform(*self.bounds, size=(height, width, self.shape[2]))
        made = noise.astype(np.float32)
        if in_noise or self.tokens is None:
            return made
        ph, pw = self.size
        for row in range(top // ph, (top + height - 1) // ph + 1):
            for col in range(left // pw, (left + width - 1) // pw + 1):
                (y, x, h, w), content = self._token(row, col, (top, left, height, width), generator)
                made[y - top : y - top + h, x - left : x - left + w] = content
        return made

    def _token(self, row, col, box, generator):
        top, left, height, width = box
        (ph, pw), channels = self.size, self.shape[2]
        y, x = max(top, row * ph), max(left, col * pw)
        h, w = min(top + height, (row + 1) * ph) - y, min(left + width, (col + 1) * pw) - x
        which = generator.integers(len(self.tokens), size=channels if self.own else 1)
        pixels = self.tokens[
            which, y - row * ph : y - row * ph + h, x - col * pw : x - col * pw + w
        ]
        made = np.stack([pixels[c, ..., c] for c in range(channels)], -1) if self.own else pixels[0]
        part = slice(y, y + h), slice(x, x + w)
        values = (made - self.shift[part]) / self.scale[part]
        return (y, x, h, w), values.clip(*self.bounds).astype(np.float32)

    def _rectangle(self, top, left, height, width, generator):
        h, w = int(generator.integers(1, height + 1)), int(generator.integers(1, width + 1))
        y = top + int(generator.integers(height - h + 1))
        x = left + int(generator.integers(width - w + 1))
        low, high = self.bounds
        color = generator.choice([low, high], size=self.shape[2])
        if generator.random() < 0.5:
            color = generator.uniform(low, high, size=self.shape[2])
        return (y, x, h, w), np.broadcast_to(color, (h, w, self.shape[2])).astype(np.float32)


def radii_of(model, X, norm):
    """Patch radii, and the smallest steps onto walls, of a pipeline with a vocabulary.

    Parameters
    ----------
    model : fitted classifier
        Such a pipeline, or one behind masks in tokens.
    X : array or frame (n, ...)
    norm : {"l2", "linf", "l1"}

    Returns
    -------
    radii : ndarray (n, rows, cols, groups)
    walls : ndarray (n, H, W, C)
    patch_size : tuple (height, width)
        Or None, instead of all three, for any other classifier.
    """
    inside = unwrapped(model.estimator_) if is_masked(model) else model
    known = [step for step in steps_of(inside) if isinstance(step, PatchTokenizer)]
    in_tokens = not is_masked(model) or model.mask_space_ == "tokens"
    if not known or not in_tokens or not hasattr(inside, "certify"):
        return None
    radii, witness = inside.certify(X, norm, return_witness=True)
    steps = witness.perturbation
    walls = steps.reshape(-1, *geometry_of(inside, steps.shape[1:])[0])
    return radii.reshape(*radii.shape[:3], -1), walls, known[0].patch_size_
