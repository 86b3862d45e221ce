"""PatchVocabulary: learning the tokens, or bringing them."""

from __future__ import annotations

import math
import warnings
from itertools import zip_longest

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklearn_patchcert import encoding
from sklearn_patchcert._validation import (
    LARGEST,
    Integral,
    Interval,
    Real,
    StrOptions,
    _fit_context,
    all_or_nothing,
    check_device,
    check_image_shape,
    check_images,
    random_seed,
    shape_of,
)
from sklearn_patchcert.patches import grid_shape, images_to_patches
from sklearn_patchcert.tokenizer import PatchTokenizer, count_groups
from sklearn_patchcert.training import distinct_tokens, fit_tokens


class PatchVocabulary(PatchTokenizer):
    """Replace every patch of an image by its nearest token of a fixed vocabulary.

    Images are cut into disjoint patches, and each patch is replaced by its nearest token (L2).
    A patch may move inside its token's Voronoi cell without changing anything downstream, so the
    distance to the cell's wall is an exact, deterministic and task-independent certificate of that
    patch: :meth:`certify` returns it for all patches.

    Parameters
    ----------
    n_tokens : int, default=64
        Size of the vocabulary, per channel where `per_channel=True`.
    patch_size : int or tuple of (int, int), default=4
        Height and width of a patch.  Larger patches than the image are clipped to it; an image
        that is no multiple of the patch is padded with zeros at the bottom and at the right, and
        the padding, which is not the attacker's, does not count in a radius.
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of images that come as rows.  None reads rows of a perfect square of values as a
        square gray image and all others as one strip of pixels.
    per_channel : bool or "shared", default=False
        False: a patch spans all channels.  True: each channel has its own tokens.  "shared": all
        channels are cut by themselves and share one vocabulary.
    strategy : {"learned", "kmeans"}, default="learned"
        "kmeans" runs Lloyd's algorithm; "learned" goes on from there by gradient descent on the
        L2 reconstruction error.
    output : {"images", "ids"}, default="images"
        What :meth:`transform` returns: images made of tokens, or token ids (n, n_patches).
    subsample : int or None, default=200_000
        Number of patches to fit on, those of as many randomly drawn images as it takes.  None: all.
    max_iter : int, default=10
        Passes over the images of the gradient descent of "learned".
    batch_size : int, default=256
        Images in one step of the gradient descent.
    learning_rate : float, default=0.01
        Step of the gradient descent, in units of the root mean square of the patches' values.
    device : str or torch.device, default="auto"
        Where the distances are computed.  "auto" is a GPU where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds the drawing, the k-means start and the shuffling.
    n_jobs : int or None, default=None
        Threads over batches of images.  Results do not depend on it.
    verbose : int, default=0
        Whether to show progress bars.

    Attributes
    ----------
    vocabulary_ : ndarray (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
        The tokens, in the units of X.  There are fewer than `n_tokens` where X has fewer distinct
        patches.  Where the channels of `per_channel=True` have different numbers of tokens, the
        last token of the shorter ones is repeated.
    token_counts_ : ndarray of int (n_tokens,) or (n_channels, n_tokens)
        How many of the patches fitted on each token stands for.
    image_shape_ : tuple (H, W, C)
    patch_size_ : tuple (ph, pw)
        `patch_size`, clipped to the image.
    per_channel_ : bool or "shared"
        `per_channel` as it was when the tokens were made.
    history_ : list of float
        Mean squared L2 error of the patches in each step of Lloyd's algorithm or, for "learned",
        the mean loss in each pass of the gradient descent; averaged over channels.
    n_iter_ : int
        Number of entries in `history_`.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str (n_features_in_,)
        Defined where X had string column names.

    See Also
    --------
    CertifiedPatchClassifier : The pipeline of this step and a classifier.

    Notes
    -----
    Fitting finds a local optimum of the error (k-means++ seeds, Arthur and Vassilvitskii, SODA
    2007).  The certificate holds for any tokens, however they were found.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> X = load_digits().data                       # 8 x 8 pixels in 0..16, as rows
    >>> vocabulary = PatchVocabulary(n_tokens=16, patch_size=4, random_state=0).fit(X)
    >>> vocabulary.tokenize(X).shape
    (1797, 2, 2)
    >>> vocabulary.certify(X).shape                  # a radius for every patch
    (1797, 2, 2)
    """

    _parameter_constraints: dict = {
        "n_tokens": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "image_shape": [None, tuple, list],
        "per_channel": ["boolean", StrOptions({"shared"})],
        "strategy": [StrOptions({"learned", "kmeans"})],
        "output": [StrOptions({"images", "ids"})],
        "subsample": [None, Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "device": "no_validation",  # check_device says more
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_tokens=64,
        patch_size=4,
        *,
        image_shape=None,
        per_channel=False,
        strategy="learned",
        output="images",
        subsample=200_000,
        max_iter=10,
        batch_size=256,
        learning_rate=0.01,
        device="auto",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_tokens = n_tokens
        self.patch_size = patch_size
        self.image_shape = image_shape
        self.per_channel = per_channel
        self.strategy = strategy
        self.output = output
        self.subsample = subsample
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @classmethod
    def from_tokens(cls, tokens, *, patch_size, image_shape=None, per_channel=False):
        """Make a fitted vocabulary of tokens that you bring.

        Parameters
        ----------
        tokens : array-like (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
            Each token is a flattened patch, channels last.  Copies of a token are dropped.
        patch_size : int or tuple of (int, int)
        image_shape : tuple (H, W) or (H, W, C), default=None
            None: images of any size are accepted.
        per_channel : bool or "shared", default=False

        Returns
        -------
        vocabulary : PatchVocabulary

        Raises
        ------
        ValueError
            If the tokens are not finite or do not fit `patch_size` and `image_shape`.

        Examples
        --------
        >>> from sklearn_patchcert import PatchVocabulary
        >>> black_white = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1)
        >>> black_white.certify([[[0.1, 0.7]]]).round(6)
        array([[[0.4, 0.2]]])
        """
        tokens = np.asarray(tokens)
        if tokens.dtype.kind not in "fiub":
            raise ValueError(f"tokens must be numbers, got {tokens.dtype}.")
        tokens = tokens if tokens.dtype == np.float32 else tokens.astype(np.float64)
        self = cls(1, patch_size, image_shape=image_shape, per_channel=per_channel)
        self._validate_params()
        self.per_channel_ = _own_or_shared(per_channel)
        if tokens.ndim != (3 if self.per_channel_ is True else 2) or 0 in tokens.shape:
            axes = "(C, n_tokens, patch_dim)" if per_channel is True else "(n_tokens, patch_dim)"
            raise ValueError(f"tokens must be {axes} and not empty, got {tokens.shape}.")
        if not np.abs(tokens).max() <= LARGEST:
            raise ValueError(f"tokens must be finite and at most {LARGEST:g} in magnitude.")
        self.patch_size_ = _pair(patch_size)
        area, dim = math.prod(self.patch_size_), tokens.shape[-1]
        if dim % area or (per_channel and dim != area):
            raise ValueError(f"tokens of {dim} values do not fit patch_size={patch_size!r}.")
        if image_shape is not None:
            self.image_shape_ = check_image_shape(image_shape)
            self.sample_shape_ = self.image_shape_[: len(tuple(image_shape))]
            self.n_features_in_ = math.prod(self.image_shape_)
            if self.patch_size_ != _clip(self.patch_size_, self.image_shape_):
                raise ValueError(f"patch_size={patch_size!r} is larger than {image_shape=}.")
        parts = [distinct_tokens(part) for part in self._own(tokens)]
        self._set_tokens(parts, [np.zeros(len(part), dtype=np.int64) for part in parts])
        self.n_tokens = self.vocabulary_.shape[-2]
        self.history_, self.n_iter_ = [], 0
        if image_shape is not None:
            self._check_channels(self.image_shape_[2])
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Learn the vocabulary.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : ignored

        Returns
        -------
        self : PatchVocabulary

        Raises
        ------
        ValueError
            If X is empty, holds NaN or inf, or has a shape that `image_shape` does not fit.
        """
        return self._fit(X, start=True)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def partial_fit(self, X, y=None):
        """Go on learning from a batch of images; the first batch starts the vocabulary.

        "kmeans" moves each token to the mean of all patches it has stood for; "learned" passes
        over the batch once.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : ignored

        Returns
        -------
        self : PatchVocabulary
        """
        return self._fit(X, start=not hasattr(self, "vocabulary_"))

    def _fit(self, X, start):
        device = check_device(self.device)
        images = check_images(self, X, reset=start, image_shape=self.image_shape)
        random = np.random.default_rng(random_seed(self.random_state))
        if start:
            self.per_channel_ = _own_or_shared(self.per_channel)
            self.patch_size_ = _clip(_pair(self.patch_size), self.image_shape_)
            self.sample_shape_ = shape_of(X)[1:]
            images = self._draw(images, random)
        patches = images_to_patches(images, self.patch_size_, per_channel=bool(self.per_channel_))
        parts = encoding.split_channels(patches, self.per_channel_ is True)
        fitted = [
            fit_tokens(
                part,
                self.n_tokens,
                self.strategy,
                tokens=None if start else self._own(self.vocabulary_)[index],
                counts=None if start else self._own(self.token_counts_)[index],
                max_iter=self.max_iter if start else 1,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=int(random.integers(2**31)),
                device=device,
                progress=bool(self.verbose),
            )
            for index, part in enumerate(parts)
        ]
        tokens, counts, histories = zip(*fitted, strict=True)
        fewest = min(map(len, tokens))
        if fewest < self.n_tokens:
            warnings.warn(
                f"X has only {fewest} distinct patches, fewer than n_tokens={self.n_tokens}: so "
                "many tokens are all that there are.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._set_tokens(tokens, counts)
        passes = zip_longest(*histories, fillvalue=np.nan)
        history = [float(np.nanmean(losses)) for losses in passes]
        self.history_: list = history if start else [*self.history_, *history]
        self.n_iter_ = len(self.history_)
        return self

    def _draw(self, images, random):
        """Whole images, as many as hold `subsample` patches."""
        rows, cols = grid_shape(self.image_shape_, self.patch_size_)
        if self.subsample is None:
            return images
        size = -(
            -self.subsample // (rows * cols * count_groups(self.image_shape_, self.per_channel_))
        )
        if size >= len(images):
            return images
        return images[random.choice(len(images), size, replace=False)]

    def _own(self, array):
        """One entry for each vocabulary, whether there is one or one for each channel."""
        return array if self.per_channel_ is True else array[None]

    def _set_tokens(self, tokens, counts):
        size = max(map(len, tokens))
        tokens = [np.pad(t, ((0, size - len(t)), (0, 0)), mode="edge") for t in tokens]
        counts = [np.pad(c, (0, size - len(c))) for c in counts]
        by_channel = self.per_channel_ is True
        self.vocabulary_ = np.stack(tokens) if by_channel else tokens[0]
        self.token_counts_ = np.stack(counts) if by_channel else counts[0]


def _pair(patch_size):
    """(ph, pw) of a number or a pair."""
    pair = (patch_size, patch_size) if np.isscalar(patch_size) else tuple(patch_size)
    if len(pair) != 2 or not all(
        isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in pair
    ):
        raise ValueError(f"patch_size must be a positive int or a pair of them, got {patch_size}.")
    return int(pair[0]), int(pair[1])


def _own_or_shared(per_channel):
    """`per_channel` as False, True or "shared", where NumPy's booleans are given, too."""
    return per_channel if isinstance(per_channel, str) else bool(per_channel)


def _clip(patch_size, image_shape):
    return min(patch_size[0], image_shape[0]), min(patch_size[1], image_shape[1])
