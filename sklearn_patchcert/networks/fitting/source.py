"""Where the images of a network come from: the vocabulary before it in a pipeline."""

from __future__ import annotations

import copy

import numpy as np

from sklearn_patchcert._validation import check_image_shape, told_shape


class Source:
    """The vocabulary of a pipeline and the images that reach it, once it is fitted.

    Parameters
    ----------
    pipeline : CertifiedPatchClassifier
    X : array-like
        What the pipeline is fitted on.
    """

    def __init__(self, pipeline, X):
        self.pipeline, self.X = pipeline, X

    @property
    def between(self):
        """Names of the steps between the vocabulary and the last step."""
        vocabulary = self.pipeline._split()[1]
        steps = [getattr(step, "estimator", step) for _, step in self.pipeline.steps[:-1]]
        at = next(i for i, step in enumerate(steps) if step is vocabulary)
        names = [name for name, _ in self.pipeline.steps[at + 1 : -1]]
        return [name for name in names if self.pipeline[name] not in (None, "passthrough")]

    def __iter__(self):
        before, vocabulary = self.pipeline._split()
        yield vocabulary
        Z = copy.deepcopy(self.X) if before else self.X  # a step may work in place
        for step in before:
            Z = step.transform(Z)
        yield Z


def shape_of_rows(net, X, source):
    """`image_shape` for the rows X, which the vocabulary of a source has where nothing is between.

    Parameters
    ----------
    net : PatchNetClassifier or PatchNetRegressor
    X : array-like (n, ...)
    source : pair of a fitted PatchVocabulary and images, or None

    Returns
    -------
    image_shape : tuple or None

    Raises
    ------
    ValueError
        If the network has another `image_shape` than the vocabulary right before it.
    """
    own = net.image_shape
    if source is None or len(np.shape(X)) != 2 or getattr(source, "between", None):
        return own
    vocabulary = next(iter(source))
    vocabulary = getattr(vocabulary, "estimator", vocabulary)  # of one that is frozen
    shape = told_shape(vocabulary)
    if vocabulary.output != "images" or shape is None:
        return own
    if own is not None and check_image_shape(own) != shape:
        raise ValueError(
            f"image_shape of the network is {tuple(own)}, but the vocabulary before it makes "
            f"images of {shape}: leave one of them out."
        )
    return shape


def channels_first(images):
    """(n, H, W, C) to float32 (n, C, H, W), a view where the dtype allows."""
    with np.errstate(over="ignore"):
        single = images.astype(np.float32, copy=False)
    if single is not images and not np.isfinite(single).all():
        raise ValueError("X has values beyond float32, in which networks compute: rescale it.")
    return single.transpose(0, 3, 1, 2)
