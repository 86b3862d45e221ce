"""PatchVocabulary: learning the tokens, or bringing them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._state import all_or_nothing
from sklearn_patchcert._validation import (
    _fit_context,
    check_device,
    check_images,
    check_patch_size,
    clip_patch,
    isolated_seed,
    own_or_shared,
    random_seed,
    search_device,
)
from sklearn_patchcert.patches import grid_shape, images_to_patches
from sklearn_patchcert.torch_globals import plain_torch
from sklearn_patchcert.vocabulary import encoding, options
from sklearn_patchcert.vocabulary.clustering.windows import cut_windows, draw_windows
from sklearn_patchcert.vocabulary.denoising import denoise
from sklearn_patchcert.vocabulary.tokenizer import PatchTokenizer, count_groups
from sklearn_patchcert.vocabulary.training import fit_tokens


class PatchVocabulary(PatchTokenizer):
    """Replace every patch of an image by its nearest token of a fixed vocabulary.

    Images are cut into disjoint patches, and each patch is replaced by its nearest token (L2).
    The downstream model receives only the tokens.  A patch may move within its token's Voronoi cell
    without any effect, so its distance to the cell boundary is an exact, deterministic and
    task-independent certificate.  :meth:`certify` returns this patch radius for all patches.

    Parameters
    ----------
    n_tokens : int or sequence of int, default=64
        Size of the vocabulary.  With `per_channel=True`, the size for each channel, or a sequence
        with one size per channel.
    patch_size : int or tuple of (int, int), default=4
        Height and width of a patch.  A patch larger than the image is clipped to it.  An image
        that is not a multiple of the patch is padded with zeros at the bottom and at the right.
        An attacker cannot change the padding, so it does not count in a radius.
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of the images.  None reads rows of a perfect square of values as a square gray image
        and all other rows as one strip of pixels.  Arrays have a shape of their own.  With None,
        fit refuses arrays that are almost certainly in another layout: an array (n, 1, H, W),
        (n, 3, H, W) or (n, 4, H, W) whose last axis is longer than 4 and whose third axis is longer
        than the second has its channels first, and an array (H, W, 3) or (H, W, 4) of 16 and more
        rows and columns is one image.  `image_shape` accepts them as they are.
    per_channel : bool or "shared", default=False
        False: a patch spans all channels.  True: each channel has its own tokens.  "shared":
        channels are cut separately and share one vocabulary.
    strategy : {"learned", "kmeans", "denoised", "supervised"}, default="learned"
        "kmeans" runs Lloyd's algorithm.  "learned" starts from k-means and continues by gradient
        descent on the L2 reconstruction error and the losses below.  "denoised" takes real patches
        of denoised images, thinned to a minimum distance, with `n_tokens` as an upper bound.
        "supervised" needs classes in `fit` and keeps tokens of different classes apart.  It is for
        patches of the size of the image, so that tokens are the prototypes of a classifier.
    soft_temperature : float or (float, float), default=None
        Soft discretization in the training of "learned": a patch is replaced by the mean of the
        tokens, weighted by the softmax of their negative distances over this temperature.  A pair
        is annealed from the first to the second.  None trains with nearest tokens, as
        :meth:`transform` and :meth:`certify` always use them.
    entropy_weight : float, default=0.0
        Weight, in "learned", of the negative entropy of that softmax at temperature 1,
        :func:`vocabulary.negentropy_loss`.
    structure_weight : float, default=0.0
        Weight, in "learned", of the difference in Sobel magnitude,
        :func:`vocabulary.structure_loss`.  Images, in whole patches, need sides of 3 pixels.
    margin_weight : float or sequence of float, default=0.0
        Weight, in "learned", of :func:`vocabulary.margin_loss`, which enlarges the radii.  With
        `per_channel=True`, a sequence has one weight per channel.
    noise_std : float, default=0.0
        Standard deviation, in units of X, of the noise that "learned" adds to the images before
        it replaces their patches.
    loss : callable, default=None
        For "learned": a function of a :class:`vocabulary.Batch` that replaces the reconstruction
        error.  The other losses are added to it.
    min_token_distance : float, default=None
        For "denoised": the smallest distance between two tokens (L2, in units of X).  None: the
        smallest distance that leaves no more than `n_tokens`.
    target_radius : float, default=None
        For "supervised": radii against tokens of other classes are enlarged up to this (L2, in
        units of X).  None: their mean at the start, which is k-means in each class.
    augment : callable, default=None
        For "supervised": a function of a batch of training images, a Tensor (n, C, H, W), that
        changes them in each step, as :func:`networks.random_affine` does.
    denoiser : callable, default=None
        For "denoised": a function of images (n, H, W, C) that returns them denoised.  None:
        :func:`vocabulary.denoise`.
    output : {"images", "ids"}, default="images"
        What :meth:`transform` returns: images made of tokens, or token ids (n, n_patches).
    subsample : int or None, default=200_000
        Number of patches to fit on, in windows of up to 8 x 8 patches that are drawn from as many
        of the images as possible.  None: all patches of all images.
    max_iter : int, default=10
        Passes over the images of the gradient descent of "learned" and "supervised".
    batch_size : int, default=256
        Images, or windows of them, in one step of the gradient descent.
    learning_rate : float, default=0.01
        Step of the gradient descent.  Like temperatures and losses, it is in units of the standard
        deviation of the patches' values.
    device : str or torch.device, default="auto"
        Where tokens are trained and distances computed.  "auto" trains on a GPU if there is one.
        It finds nearest tokens and radii on the CPU, since no GPU has been measured to be faster.
        A device without float64, such as Apple's MPS, cannot compute radii and is refused.
    random_state : int, RandomState instance or None, default=None
        Seeds the drawing, the k-means start and the shuffling.
    n_jobs : int or None, default=None
        Threads over batches of images or, in `fit`, of patches.  Results do not depend on it.
    verbose : int, default=0
        Positive: show progress bars.

    Attributes
    ----------
    vocabulary_ : ndarray (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
        The tokens, in the units of X.  There are fewer than `n_tokens` if X has fewer distinct
        patches.  If channels have different numbers of tokens, the last token of a shorter
        vocabulary is repeated.
    token_counts_ : ndarray of int (n_tokens,) or (n_channels, n_tokens)
        How many of the training patches have each token.
    perplexity_ : float or ndarray (n_channels,)
        Effective number of tokens in use: the exponential of the entropy of their use.
    categories_ : list of ndarray of int
        The possible token ids of each column of `output="ids"`, for example for
        ``OneHotEncoder(categories=vocabulary.categories_)``.
    image_shape_ : tuple (H, W, C)
    patch_size_ : tuple (ph, pw)
        `patch_size`, clipped to the image.
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.  A vocabulary that was made by
        :meth:`from_tokens` or stored by an older version lacks it.  Predictions and certificates
        warn once if they are given images on another scale.
    input_dtype_ : str
        Name of the dtype of the images fitted on.
    per_channel_ : bool or "shared"
        `per_channel` as it was when the tokens were made.
    history_ : list of float
        Mean squared L2 error of the patches in each step of Lloyd's algorithm or, for "learned",
        the mean loss in each pass of the gradient descent; averaged over channels.
    n_iter_ : int
        Number of entries in `history_`.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str (n_features,)
        Defined if X has string column names.

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

    _parameter_constraints: dict = options.CONSTRAINTS
    _made_by_fit = (
        "vocabulary_", "token_counts_", "patch_size_", "per_channel_", "history_", "n_iter_",
    )  # fmt: skip

    def __init__(
        self,
        n_tokens=64,
        patch_size=4,
        *,
        image_shape=None,
        per_channel=False,
        strategy="learned",
        soft_temperature=None,
        entropy_weight=0.0,
        structure_weight=0.0,
        margin_weight=0.0,
        noise_std=0.0,
        loss=None,
        min_token_distance=None,
        target_radius=None,
        augment=None,
        denoiser=None,
        output="images",
        subsample=200_000,
        max_iter=10,
        batch_size=256,
        learning_rate=0.01,
        device="auto",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ) -> None:
        self.n_tokens = n_tokens
        self.patch_size = patch_size
        self.image_shape = image_shape
        self.per_channel = per_channel
        self.strategy = strategy
        self.soft_temperature = soft_temperature
        self.entropy_weight = entropy_weight
        self.structure_weight = structure_weight
        self.margin_weight = margin_weight
        self.noise_std = noise_std
        self.loss = loss
        self.min_token_distance = min_token_distance
        self.target_radius = target_radius
        self.augment = augment
        self.denoiser = denoiser
        self.output = output
        self.subsample = subsample
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None) -> PatchVocabulary:
        """Learn the vocabulary.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,) of classes
            For "supervised"; ignored by the others.

        Returns
        -------
        self : PatchVocabulary

        Raises
        ------
        ValueError
            If X is empty, holds NaN or inf, or has a shape that `image_shape` does not fit; if
            "supervised" has no classes, or more of them than tokens.
        """
        return self._fit(X, y, start=True)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def partial_fit(self, X, y=None) -> PatchVocabulary:
        """Continue to learn from a batch of images; the first batch starts the vocabulary.

        "kmeans" moves each token to the mean of all patches that had this token; "learned" passes
        over the batch once; "denoised" adds patches that are far enough from all tokens.

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
            For what `fit` refuses, for "supervised", and if `patch_size` or `per_channel` is no
            longer what the tokens were made with.
        """
        if self.strategy == "supervised":
            raise ValueError('strategy="supervised" knows no partial_fit: use fit.')
        start = not hasattr(self, "vocabulary_")
        if not start:
            options.check_unchanged(self)
        return self._fit(X, y, start)

    def _fit(self, X, y, start):
        device = check_device(self.device)
        X = as_batch(X)
        images = check_images(
            self, X, reset=start, image_shape=self.image_shape, learning=not start, as_given=start
        )
        random = np.random.default_rng(random_seed(self.random_state))
        options.check_temperature(self.soft_temperature)
        if start:
            options.warn_of_idle_options(self, stacklevel=5)
            self.per_channel_ = own_or_shared(self.per_channel)
            self.patch_size_ = clip_patch(check_patch_size(self.patch_size), self.image_shape_)
            self.sample_shape_ = tuple(X.shape)[1:]
        labels = options.class_labels(X, y) if self.strategy == "supervised" else None
        prepare = self._denoised if self.strategy == "denoised" else None
        windows = self._windows(len(images), random) if start else None
        if windows is not None:
            images = cut_windows(images, windows, self.patch_size_, prepare)
            labels = None if labels is None else options.drawn_labels(labels, windows.owners)
        else:
            floats = np.result_type(images, np.float32)
            images = (prepare or np.asarray)(images.astype(floats, copy=False))
        patches = images_to_patches(images, self.patch_size_, per_channel=bool(self.per_channel_))
        parts = encoding.split_channels(patches, self.per_channel_ is True)
        sizes = options.by_channel(self, "n_tokens", len(parts))
        margins = options.by_channel(self, "margin_weight", len(parts))
        grid = *patches.shape[1:3], 1 if self.per_channel_ is True else patches.shape[3]
        training = {name: getattr(self, name) for name in options.OF_TRAINING}

        def fitted(index, part):
            tokens = counts = None
            if not start:
                tokens = self._own(self.vocabulary_)[index]
                tokens = tokens[: encoding.count_own(tokens)]
                counts = self._own(self.token_counts_)[index][: len(tokens)]
            return fit_tokens(
                part,
                sizes[index],
                self.strategy,
                tokens=tokens,
                counts=counts,
                min_distance=self.min_token_distance,
                labels=labels,
                max_iter=self.max_iter if start else 1,
                layout=(grid, self.patch_size_, images.shape[1:3]),
                **{**training, "margin_weight": margins[index]},
                seed=int(random.integers(2**31)),
                device=device,
                search_device=search_device(self.device),
                n_jobs=self.n_jobs,
                progress=bool(self.verbose),
            )

        alone: AbstractContextManager = nullcontext()
        if self.augment is not None:  # it draws from torch's global generator
            alone = isolated_seed(random.integers(2**31), device)
        with alone, plain_torch(training=True):
            found = [fitted(index, part) for index, part in enumerate(parts)]
        tokens, counts, histories = zip(*found, strict=True)
        if self.strategy != "denoised":
            options.warn_of_few_patches(self.n_tokens, sizes, tokens, stacklevel=5)
        self._set_tokens(tokens, counts)
        passes = zip_longest(*histories, fillvalue=np.nan)
        history = [float(np.nanmean(losses)) for losses in passes]
        self.history_: list = history if start else [*self.history_, *history]
        self.n_iter_ = len(self.history_)
        return self

    def _windows(self, n_images, random):
        groups = count_groups(self.image_shape_, self.per_channel_)
        patches = self.subsample
        return draw_windows(n_images, self.image_shape_, self.patch_size_, groups, patches, random)

    def _denoised(self, images):
        made = np.asarray((self.denoiser or denoise)(images.copy()))  # it may work in place
        if made.shape != images.shape or not np.isfinite(made).all():
            raise ValueError(
                f"The denoiser must return finite images {images.shape}, got {made.shape}."
            )
        return made.astype(images.dtype, copy=False)

    @property
    def perplexity_(self) -> NDArray[Any] | float:
        check_is_fitted(self, "vocabulary_")
        counts = np.asarray(self.token_counts_, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            shares = counts / counts.sum(-1, keepdims=True)
        found = np.exp(entr(shares).sum(-1))
        return found if found.ndim else float(found)

    @property
    def _sizes(self):  # numbers of tokens, of each channel where channels have their own
        return [encoding.count_own(tokens) for tokens in self._own(self.vocabulary_)]

    @property
    def categories_(self) -> list[NDArray[np.int64]]:
        check_is_fitted(self, "vocabulary_")
        if not hasattr(self, "image_shape_"):
            raise AttributeError(
                "Without an image_shape the number of patches is not known: pass image_shape to "
                "from_tokens."
            )
        rows, cols = grid_shape(self.image_shape_, self.patch_size_)
        columns = rows * cols * count_groups(self.image_shape_, self.per_channel_)
        return [np.arange(size) for size in np.resize(self._sizes, columns)]  # channels alternate
