"""What may be given as images, and how their axes are read: errors that speak of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set

import numpy as np
from scipy.sparse import issparse

__all__ = ["as_batch", "check_layout", "of_torch", "sizes"]

_ROWS_OF_A_PICTURE = 16  # from here on, 3 or 4 columns are color channels rather than a width


def as_batch(X, *, texts=False):
    """Check that something can be images, and return it as something that has a shape.

    Parameters
    ----------
    X : array-like
        Arrays and frames come back as they are, and tensors of torch as arrays.  Lists of arrays
        or of pictures of Pillow, all of one size, are put together.
    texts : bool
        Whether texts may come, for a step that reads files.

    Returns
    -------
    X : ndarray, frame or other array

    Raises
    ------
    TypeError
        If X is sparse, a stream of batches, a mapping, a text, None or anything else without a
        shape.
    ValueError
        If X is a list of images of several sizes or modes, or holds texts.
    """
    if issparse(X):
        raise TypeError("Sparse data was passed, but images are dense: use X.toarray().")
    if _is_picture(X):
        raise TypeError("X is a single picture, not a batch: pass a list of pictures, [X].")
    X = of_torch(X)
    if isinstance(X, list | tuple):
        X = _from_list(X, texts)
    elif getattr(X, "ndim", None) == 1 and _kind(X) == "O":
        items = list(X)
        X = _from_list(items, texts) if items and np.ndim(items[0]) else X
    elif not hasattr(X, "shape"):
        if not hasattr(X, "__array__"):
            raise TypeError(_no_array(X))
        X = np.asarray(X)
    if _kind(X) in ("U", "S") and not texts:
        first = np.asarray(X).reshape(-1)[:1].tolist()
        raise ValueError(
            f"X holds texts, {first!r:.60}, which do not convert to numbers: read the images first."
        )
    return X


def check_layout(shape, *, owner, fitted=None, image_shape=None, outright=False):
    """Shape (H, W, C) of the images of a batch; None if they come as rows.

    Parameters
    ----------
    shape : tuple
        Of the batch.
    owner : str
        Class of the estimator, for errors.
    fitted : tuple (H, W, C) or None
        Of the images that it was fitted with.
    image_shape : tuple (H, W, C) or None
        What its parameter says.
    outright : bool
        Whether it is known from elsewhere that the axes are meant as they are.

    Returns
    -------
    image_shape : tuple (H, W, C) or None

    Raises
    ------
    ValueError
        If the images are of another size than `fitted` or `image_shape`.  If neither is known: if
        they look as if the channels came first, or like one color image without the axis of the
        images (see the notes).

    Notes
    -----
    Channels come first for certain where the last axis is longer than 4, so that it is no usual
    number of channels, and the second has 1, 3 or 4 entries and fewer than the third: a map of
    features (4, 4, 8) passes.  One image (H, W, C) looks like H gray images of C columns; C of 3
    or 4 with H and W of 16 and more is taken for channels.
    """
    if len(shape) > 4:
        raise ValueError(f"Images must have 2, 3 or 4 dimensions, got {len(shape)} ({shape}).")
    wanted = fitted or image_shape
    if len(shape) < 3:
        if len(shape) == 2 and wanted and shape == wanted[:2] and shape[1] < np.prod(wanted):
            raise ValueError(
                f"X has {shape[1]} features, but {owner} is expecting {np.prod(wanted)} features "
                f"as input. {_SINGLE}"
            )
        return None
    found = tuple(map(int, shape[1:])) + (1,) * (4 - len(shape))
    if wanted:
        if found != wanted:
            told = f"{owner} was fitted with images of shape {wanted}"
            told = told if fitted else f"image_shape={wanted}"
            raise ValueError(
                f"X has images of {sizes(found)}, but {told}, that is {sizes(wanted)}. "
                f"{_remedy(shape, wanted)}"
            )
    elif not outright:
        _refuse_unlikely(shape)
    return found


def sizes(shape):
    """(H, W, C) in words."""
    height, width, channels = shape
    return f"height {height}, width {width} and {channels} channel{'s' * (channels != 1)}"


_SINGLE = (
    "It has the shape of one single image: add the axis of the images, X[np.newaxis], or pass a "
    "list, [X]."
)
_MOVE = "The channels seem to come first: move them to the end, np.moveaxis(X, 1, -1)."
_MOVE_SINGLE = (
    "It has the shape of one single image with the channels first: pass "
    "np.moveaxis(X, 0, -1)[np.newaxis]."
)


def channels_hint(shape, channels):
    """What to do about images whose last axis is not the number of channels."""
    return f" {_MOVE}" if len(shape) == 4 and shape[1] == channels else ""


def _remedy(shape, wanted):
    height, width, channels = wanted
    if shape == wanted or (channels == 1 and shape[1:] == (1, 1)):
        return _SINGLE
    if len(shape) == 3 and shape == (channels, height, width):
        return _MOVE_SINGLE
    if len(shape) == 4 and shape[1] == channels and shape[3] != channels:
        return _MOVE
    found = (*shape[1:], 1)[:3]
    if found[2] != channels and found[:2] == wanted[:2]:
        return f"Convert the images to {channels} channel{'s' * (channels != 1)}."
    return "Resize all images to one size, before fit as before predictions and certificates."


def _refuse_unlikely(shape):
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] > 4 and shape[2] > shape[1]:
        raise ValueError(
            f"X of shape {shape} would be images of {sizes(shape[1:])}. {_MOVE} If they are meant "
            f"so, say it: image_shape={tuple(shape[1:])}."
        )
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= _ROWS_OF_A_PICTURE:
        raise ValueError(
            f"X of shape {shape} would be {shape[0]} gray images of {sizes((*shape[1:], 1))}. "
            f"{_SINGLE} If they are meant so, say it: image_shape={tuple(shape[1:])}."
        )


def _kind(X):
    return getattr(getattr(X, "dtype", None), "kind", None)


def of_torch(X):
    """An array instead of a tensor, on whatever device, and anything else as it is."""
    if not any(kind.__module__ == "torch" for kind in type(X).__mro__) or not hasattr(X, "cpu"):
        return X
    X = X.detach().cpu()
    return (X.float() if str(X.dtype) == "torch.bfloat16" else X).numpy()


def _is_picture(item):
    """Whether it is a picture of Pillow, which need not be there."""
    return hasattr(item, "getbands") and hasattr(item, "mode")


def _from_list(items, texts):
    """One array of a list: of numbers, of lists, of arrays or of pictures."""
    pictures = [_is_picture(item) for item in items]
    if any(pictures):
        items = _arrays_of_pictures(items, pictures)
    shapes = None
    if len(items) and all(len(getattr(item, "shape", ())) for item in items):
        items = [np.asarray(of_torch(item)) for item in items]
        shapes = [item.shape for item in items]
    else:
        try:
            made = np.asarray(items)
        except ValueError:
            shapes = [_shape(item) for item in items]
        else:
            if made.dtype == object and made.ndim < 2 and len(items):
                raise TypeError(f"X is a list of {type(items[0]).__name__}, not of images.")
            return items if texts and made.dtype.kind == "U" else made
    if len(shapes) == 2 and None not in shapes and len(shapes[0]) > 2 and len(shapes[1]) == 1:
        raise ValueError(
            f"X is a pair of arrays of the shapes {shapes[0]} and {shapes[1]}, as of images and "
            "labels: pass the images alone, of each batch where there are several."
        )
    other = next((at for at, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None or None in shapes:
        other = 0 if other is None else other
        raise ValueError(
            f"The images of X have several sizes: X[0] has the shape {shapes[0]}, X[{other}] "
            f"{shapes[other]}. Resize them to one height, width and number of channels."
        )
    if len(shapes[0]) > 3:
        raise ValueError(
            f"The items of a list must be single images (H, W) or (H, W, C), X[0] has the shape "
            f"{shapes[0]}: put batches together with np.concatenate(X)."
        )
    return np.stack(items)


def _arrays_of_pictures(items, pictures):
    modes = sorted({item.mode for item in items if hasattr(item, "mode")})
    if not all(pictures) or len(modes) > 1:
        raise ValueError(
            f"The pictures of X must all have one mode, got {', '.join(modes)}"
            f"{'' if all(pictures) else ' and arrays'}: use picture.convert('RGB') or ('L')."
        )
    if modes[0] in ("P", "PA", "1"):
        raise ValueError(
            f"Pictures of mode {modes[0]!r} hold no brightness: use picture.convert('RGB') or "
            "('L')."
        )
    return [np.asarray(item) for item in items]


def _shape(item):
    try:
        return np.shape(item)
    except ValueError:  # itself of several sizes
        return None


def _no_array(X):
    kind = type(X).__name__
    what = f"X must be an array of images (n, H, W), (n, H, W, C) or of rows, got {kind}"
    if X is None:
        return f"{what}."
    if isinstance(X, str | bytes | os.PathLike):
        return f"{what} {str(X)!r:.60}: read the images first."
    if isinstance(X, Mapping | Set):
        return f"{what}: pass the array in it, or np.stack(list(X.values()))."
    if isinstance(X, Iterator) or hasattr(X, "__iter__") or hasattr(X, "__getitem__"):
        return (
            f"{what}. Put its batches together, np.concatenate(list(batches)), or single images, "
            "np.stack(list(images)), without labels and channels last. The methods tokenize and "
            "certify also take an iterator of batches, certify(iter(batches))."
        )
    return f"{what}."
