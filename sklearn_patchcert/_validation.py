"""What comes in: image layouts, devices, seeds; scikit-learn's private imports in one place."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.model_selection._search import BaseSearchCV
from sklearn.multiclass import _ConstantPredictor
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names, _check_feature_names_in, validate_data

from sklearn_patchcert._layouts import as_batch, channels_hint, check_layout
from sklearn_patchcert._ranges import extend, judge, remember

__all__ = [
    "LARGEST",
    "BaseSearchCV",
    "HasMethods",
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "_ConstantPredictor",
    "_check_feature_names",
    "_check_feature_names_in",
    "_fit_context",
    "check_device",
    "check_image_shape",
    "check_images",
    "check_options",
    "check_output_of_images",
    "images_and_range",
    "isolated_seed",
    "random_seed",
    "search_device",
    "shape_of",
    "told_shape",
]

LARGEST = 1e150
_EXACT_IN_FLOAT32 = (np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.float16)
_SEED_LOCK = threading.RLock()


def check_images(
    estimator, X, *, reset, image_shape=None, outright=False, learning=False, as_given=False
):  # fmt: skip
    """Check a batch of images and bring it into the layout (n, H, W, C).

    Parameters
    ----------
    estimator : BaseEstimator
        Its `image_shape_`, `input_range_` and `input_dtype_` are compared (`reset=False`) or set
        (`reset=True`), like `n_features_in_`.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or list of pictures of Pillow
    reset : bool
        Whether this is a call of fit.
    image_shape : None or tuple (H, W) or (H, W, C)
        The shape of images.  Rows take it; images that look as if their axes were in another order
        are refused without it.
    outright : bool
        Whether the user has said elsewhere that the axes are meant as they are.
    learning : bool
        Whether this is a call of partial_fit, which widens the range.
    as_given : bool
        Whether integers of up to 16 bits may stay as they are.

    Returns
    -------
    images : ndarray (n, H, W, C)
        float32 where that holds the values of X exactly (float32, float16, small integers), else
        float64.

    Raises
    ------
    ValueError
        If X holds NaN, inf, texts or values beyond 1e150, is empty or has a shape that does not
        fit.
    TypeError
        If X is sparse or no array, or its dtype is wider than float64.

    Warns
    -----
    UserWarning
        Once, if the values are on another scale than those that it was fitted on.
    """
    X = as_batch(X)
    as_given &= all(dtype.kind in "biu" and dtype.itemsize <= 2 for dtype in _dtypes(X))
    images, limits, dtype = images_and_range(
        estimator, X, reset=reset, image_shape=image_shape, outright=outright, as_given=as_given
    )
    limits = limits or (float(images.min()), float(images.max()))
    if reset:
        remember(estimator, limits, dtype)
        return images
    judge(estimator, limits, len(images), images)
    if learning:
        extend(estimator, limits)
    return images


def images_and_range(
    estimator, X, *, reset=False, image_shape=None, outright=False, channels=None, as_given=False
):  # fmt: skip
    """Images as :func:`check_images` returns them, their smallest and largest value, and the dtype.

    Parameters
    ----------
    estimator, X, reset, image_shape, outright
        As there.
    channels : int or None
        How many channels images of any size must have.
    as_given : bool
        Whether arrays of numbers may stay as they are, with values that nobody has looked at. Then
        the range is None.

    Returns
    -------
    images : ndarray (n, H, W, C)
    limits : (float, float) or None
    dtype : dtype
        Of X as it was given.
    """
    X = as_batch(X)
    said = None if image_shape is None else check_image_shape(image_shape)
    fitted = None if reset else getattr(estimator, "image_shape_", None)
    shape = check_layout(
        tuple(X.shape), owner=type(estimator).__name__, fitted=fitted, image_shape=said,
        outright=outright or channels is not None,
    )  # fmt: skip
    if shape is not None:
        if channels not in (None, shape[2]):
            raise ValueError(
                f"The images have {shape[2]} channels, the tokens are made for {channels}."
                f"{channels_hint(X.shape, channels)}"
            )
        X = np.asarray(X)
        X = X.reshape(len(X), math.prod(shape))
    dtypes = _dtypes(X)
    for dtype in dtypes:
        if dtype.kind == "f" and dtype.itemsize > 8:
            raise TypeError(f"{dtype} is wider than float64; convert X to float64 first.")
    exact = dtypes and all(dtype.type in _EXACT_IN_FLOAT32 for dtype in dtypes)
    wanted = np.float32 if exact else [np.float64, np.float32]
    limits: tuple[float, float] | None = None
    if as_given and _is_plain(X):
        rows = np.asarray(validate_data(estimator, X, reset=reset, skip_check_array=True))
    else:
        rows = validate_data(estimator, X, reset=reset, dtype=wanted)
        limits = float(rows.min()), float(rows.max())
        _check_limits(limits, dtypes)
    shape = shape or fitted or _shape_of_rows(rows.shape[1], image_shape, warn=reset)
    if reset:
        estimator.image_shape_ = tuple(map(int, shape))
    return rows.reshape(len(rows), *shape), limits, np.result_type(*dtypes)


def _check_limits(limits, dtypes):
    largest = max(limits[1], -limits[0])
    if largest > LARGEST:
        raise ValueError(f"X has values beyond {LARGEST:g}, whose squares would overflow.")
    if largest >= 2**53 and not all(dtype.kind == "f" for dtype in dtypes):
        raise ValueError("X has integers from 2**53 on, which float64 does not hold exactly.")


def _is_plain(X):
    """Whether these are rows of numbers of which only finiteness and size are in question."""
    plain = type(X) in (np.ndarray, np.memmap) and X.ndim == 2 and X.size > 0
    if not plain or not X.dtype.isnative:
        return False
    return X.dtype.kind == "f" or (X.dtype.kind in "biu" and X.dtype.itemsize <= 4)


def check_output_of_images(estimator, X):
    """Refuse to put images into a frame, as `set_output` may ask for, before they are computed."""
    kind = _get_output_config("transform", estimator)["dense"]
    if kind != "default" and len(X.shape) > 2:
        raise ValueError(
            f'set_output(transform="{kind}") makes frames, which hold rows only, but X has the '
            f"shape {tuple(X.shape)}: pass rows, X.reshape(len(X), -1), and image_shape="
            f'{tuple(X.shape[1:])}, or call set_output(transform="default").'
        )


def _dtypes(X):
    """NumPy's dtypes of an array or of a frame's columns; object where it is not known."""
    found = getattr(X, "dtypes", None)
    found = [getattr(X, "dtype", None)] if found is None else list(found)
    return [dtype if isinstance(dtype, np.dtype) else np.dtype(object) for dtype in found]


def shape_of(X):
    """Shape of an array-like, without converting what says its shape itself."""
    shape = getattr(X, "shape", None)
    return tuple(np.asarray(X).shape if shape is None else shape)


def check_image_shape(image_shape):
    """Return (H, W, C) for (H, W) or (H, W, C); raise ValueError for anything else."""
    shape = tuple(image_shape) if np.iterable(image_shape) else ()
    if len(shape) not in (2, 3) or not all(
        isinstance(size, (int, np.integer)) and size > 0 for size in shape
    ):
        raise ValueError(f"image_shape must be (H, W) or (H, W, C), got {image_shape!r}.")
    return tuple(int(size) for size in shape) + (1,) * (3 - len(shape))


def told_shape(estimator):
    """(H, W, C) in which an estimator reads rows, or None where their length decides."""
    told = getattr(estimator, "image_shape_", None) or getattr(estimator, "image_shape", None)
    return None if told is None else check_image_shape(told)


def _shape_of_rows(n_features, image_shape, warn):
    """(H, W, C) of images that are rows: as given, else square and gray, else one strip."""
    if image_shape is not None:
        shape = check_image_shape(image_shape)
        if math.prod(shape) != n_features:
            raise ValueError(
                f"X has {n_features} features, but image_shape={tuple(image_shape)} has "
                f"{math.prod(shape)}."
            )
        return shape
    side = math.isqrt(n_features)
    if side * side == n_features:
        return side, side, 1
    side = math.isqrt(n_features // 3)
    if warn and side >= 8 and 3 * side * side == n_features:
        warnings.warn(
            f"Rows of {n_features} values look like color images of shape ({side}, {side}, 3) "
            f"but are read as one strip of pixels; pass image_shape=({side}, {side}, 3), or "
            f"image_shape=(1, {n_features}) to keep the strip.",
            UserWarning,
            stacklevel=5,
        )
    return 1, n_features, 1


def check_device(device):
    """Turn "auto", a device's name or a torch.device into a torch.device that is there.

    "auto" is a GPU where there is one, else the CPU: training, and networks, run there.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={device!r} cannot be used here: {reason}") from error
    return found


def search_device(device):
    """Where tokens are searched for: "auto" stays, since the search decides by its size.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.
    """
    return "auto" if isinstance(device, str) and device == "auto" else check_device(device)


def check_autocast(autocast, device):
    """Turn True, False or "auto" into whether to compute in bfloat16 on a device.

    "auto" says so where it is faster: a CPU without instructions for it is far slower in bfloat16.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if autocast not in (True, False, "auto"):
        raise ValueError(f'autocast must be True, False or "auto", got {autocast!r}.')
    if autocast != "auto":
        return bool(autocast)
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available():  # then torch lacks the operators, too
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_options(estimator, *names):
    """Refuse some options that may have been set to nonsense since the fit; quicker than all."""
    options = {name: getattr(estimator, name) for name in names}
    validate_parameter_constraints(
        estimator._parameter_constraints, options, caller_name=type(estimator).__name__
    )


def random_seed(random_state):
    """Draw a seed from a scikit-learn `random_state`.

    None gives a fresh one and, unlike in scikit-learn, leaves NumPy's global generator alone.
    """
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return int(random.randint(np.iinfo(np.int32).max))


@contextlib.contextmanager
def isolated_seed(seed, device="cpu"):
    """Seed torch's global generator inside the block and put it back as it was found.

    Threads of one process take turns, since they share that generator.
    """
    device, seed = torch.device(device), int(seed)
    devices = [device] if device.type == "cuda" else []
    with _SEED_LOCK, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed idle GPUs, too
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield


def check_patch_size(patch_size):
    """(ph, pw) of a number or a pair."""
    pair = (patch_size, patch_size) if np.isscalar(patch_size) else tuple(patch_size)
    if len(pair) != 2 or not all(
        isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in pair
    ):
        raise ValueError(f"patch_size must be a positive int or a pair of them, got {patch_size}.")
    return int(pair[0]), int(pair[1])


def own_or_shared(per_channel):
    """`per_channel` as False, True or "shared", where NumPy's booleans are given, too."""
    return per_channel if isinstance(per_channel, str) else bool(per_channel)


def clip_patch(patch_size, image_shape):
    """The patch (ph, pw), no larger than the image."""
    return min(patch_size[0], image_shape[0]), min(patch_size[1], image_shape[1])
