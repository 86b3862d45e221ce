"""What the displays are given: images, labels and counts, and what is written of them."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch


def images_of(estimator, X):
    """X as something that has a shape; a pipeline may read files."""
    return estimator._batch(X) if hasattr(estimator, "_batch") else as_batch(X)


def check_has_maps(estimator):
    """TypeError if an estimator is neither a vocabulary nor a certified pipeline."""
    if any(hasattr(type(estimator), name) for name in ("_split", "_radii")):
        return
    raise TypeError(
        f"A {type(estimator).__name__} has no tokens of its own to draw: pass the vocabulary or "
        "the certified pipeline inside it, for example search.best_estimator_, or draw "
        "sklearn_patchcert.certify(model, X) with CertificateDisplay.from_radii."
    )


def with_one(X, vocabulary):
    """X, or for one image (H, W) or (H, W, C) an array that holds it alone."""
    found = np.shape(X)
    shape = getattr(vocabulary, "image_shape_", None)
    if shape is None:  # tokens of the user's own, for images of any size
        channels = vocabulary._channels()
        single = len(found) == 3 and channels not in (None, 1) and found[2] == channels
    else:
        single = found == shape or (shape[2] == 1 and found == shape[:2])
    return np.asarray(X)[None] if single else X


def checked_radii(images, discretised, radii, patch_size):
    """The three arrays as batches; ValueError if they do not fit each other.

    One image may come without a first axis of length one: (H, W) or (H, W, C), with radii
    (rows, cols) or (rows, cols, C).
    """
    given = images.shape, discretised.shape, radii.shape
    if images.ndim == 2 or (images.ndim == 3 and _is_one(images, radii)):
        images, discretised = images[None], discretised[None]
        if radii.ndim == 2 or len(radii) != 1:
            radii = radii[None]
    elif radii.ndim == 2:
        radii = radii[None]
    fits = images.ndim in (3, 4) and radii.ndim in (3, 4) and len(images) > 0
    if fits:
        patches = tuple(-(-s // p) for s, p in zip(images.shape[1:3], patch_size, strict=True))
        fits = radii.shape[:3] == (len(images), *patches)
        fits = fits and discretised.shape[:3] == images.shape[:3]
    if not fits:
        raise ValueError(
            f"images {given[0]}, discretised {given[1]} and radii {given[2]} do not fit each other "
            f"and patches of {tuple(patch_size)} pixels: each image (H, W) or (H, W, C) needs a "
            "discretised form of its shape and a radius for each of its patches."
        )
    if not (radii >= 0).all():
        raise ValueError("radii must be numbers from 0 on, without NaN.")
    return images, discretised, radii


def _is_one(images, radii):
    """Whether an array of three axes is one image with channels, as its radii tell."""
    if radii.ndim == 2:
        return len(images) != 1
    return len(radii) != len(images) and (len(radii) == 1 or radii.shape[-1] == images.shape[-1])


def per_image(values, n, what):
    """An array (n,), or None; ValueError for other lengths."""
    if values is None:
        return None
    values = np.atleast_1d(np.asarray(values))
    if values.shape != (n,):
        raise ValueError(f"{what} must have one entry for each of {n} images, got {values.shape}.")
    return values


def check_labels(y, classes):
    """Refuse labels of which none is a class, as "1" is none where the classes are numbers."""
    known = np.asarray(classes).tolist()
    if y is not None and len(y) and set(known).isdisjoint(y.tolist()):
        raise ValueError(
            f"No label of y is a class of the model: y has {y.tolist()[:3]}..., the classes are "
            f"{known[:3]}... Pass y in the words of model.classes_."
        )


def named(labels, classes, display_labels):
    """Labels, replaced by the names of their classes where these are given."""
    if labels is None or display_labels is None:
        return labels
    if len(display_labels) != len(classes):
        raise ValueError(
            f"display_labels must name {len(classes)} classes, got {len(display_labels)} names."
        )
    names = dict(zip(classes, display_labels, strict=True))
    return np.array([names.get(label, label) for label in labels], dtype=object)


def wrong(predictions, y):
    """Which predictions are wrong, (n,) bool; none of numbers that are no labels."""
    if predictions is None or y is None:
        return np.zeros(len(y if predictions is None else predictions), dtype=bool)
    for values in (predictions, y):
        if values.dtype.kind == "f" and (values != np.round(values)).any():
            return np.zeros(len(values), dtype=bool)  # a regression
    return np.asarray(predictions != y, dtype=bool)


def captions(names, predictions, y):
    """Lines of text for each image, each in a long and shorter forms; no lines if all are None."""
    given = [values for values in (names, predictions, y) if values is not None]
    if not given:
        return []
    lines: list[list[tuple[str, ...]]] = [[] for _ in given[0]]
    if names is not None:
        for line, name in zip(lines, names, strict=True):
            line.append((str(name),))
    if predictions is not None:
        for line, label in zip(lines, map(_written, predictions), strict=True):
            line.append((f"predicted {label}", label))
    if y is not None:
        for line, label, bad in zip(lines, map(_written, y), wrong(predictions, y), strict=True):
            long = f"wrong, true {label}" if bad else f"true {label}"
            line.append((long, f"not {label}" if bad else long, label))
    return lines


def _written(label):
    return f"{label:.4g}" if isinstance(label, (float, np.floating)) else str(label)


def checked_counts(counts):
    """Counts as an array; ValueError if they are no numbers from 0 on."""
    counts = np.asarray(counts)
    if counts.dtype.kind not in "iuf" or not (counts >= 0).all():
        raise ValueError(f"counts must be numbers from 0 on, got {counts!r}.")
    return counts


def counts_of(estimator, X):
    """The vocabulary of an estimator, and how often each token is used; None if unknown."""
    check_is_fitted(estimator)
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    known = [hasattr(step, "tokenize") for step in steps]
    if not any(known):
        raise TypeError(f"There is no PatchVocabulary in {estimator!r}.")
    at = known.index(True)
    vocabulary = steps[at]
    if X is None:
        counts = vocabulary.token_counts_
        return vocabulary, counts if counts.any() else None
    Z = X.copy() if hasattr(X, "copy") else X  # a step may work in place
    for step in steps[:at]:
        Z = Z if step in (None, "passthrough") else step.transform(Z)
    ids = vocabulary.tokenize(Z)
    n_tokens = vocabulary.vocabulary_.shape[-2]
    if vocabulary.per_channel_ is not True:
        return vocabulary, np.bincount(ids.ravel(), minlength=n_tokens)
    channels = np.moveaxis(ids, -1, 0).reshape(ids.shape[-1], -1)
    return vocabulary, np.stack([np.bincount(part, minlength=n_tokens) for part in channels])


def own_tokens(tokens):
    """Numbers of tokens of each channel, before the last is repeated to fill the array.

    Parameters
    ----------
    tokens : ndarray (n_channels, n_tokens, patch_dim)

    Returns
    -------
    sizes : list of int
    """
    others = (tokens != tokens[:, -1:]).any(-1)
    return [int(part.nonzero()[0].max(initial=-1)) + 2 for part in others]


def numbers_text(sizes):
    """ "8 tokens" or, for channels, "12, 2 and 2 tokens" or "8 tokens, each of 3 channels"."""
    if len(set(sizes)) == 1:
        each = f", each of {len(sizes)} channels" if len(sizes) > 1 else ""
        return f"{sizes[0]} token{'s' * (sizes[0] != 1)}{each}"
    return f"{', '.join(map(str, sizes[:-1]))} and {sizes[-1]} tokens"
