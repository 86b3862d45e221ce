"""Images made of tokens, for assignments that differ in few patches."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.prediction.search.assignments import Assignments
from sklearn_patchcert.vocabulary import encoding

_FEW = 0.05  # of the patches, which are put into a copy of another image


class Decoder:
    """Function of assignments to images (m, H, W, C), as the vocabulary makes them.

    Assignments are token ids (m, positions), or Assignments.  Images of others are copied, and the
    few patches that differ are filled in.

    Parameters
    ----------
    grid : tuple (rows, cols, groups)
    image_shape : tuple (H, W, C)
    vocabulary, patch_size, per_channel
        As :func:`vocabulary.encoding.decode` takes them.
    """

    def __init__(self, grid, image_shape, vocabulary, patch_size, per_channel):
        self.grid, self.vocabulary = grid, vocabulary
        self.code = {
            "vocabulary": vocabulary,
            "image_shape": image_shape,
            "patch_size": patch_size,
            "per_channel": per_channel,
        }
        numbers = np.arange(np.prod(image_shape)).reshape(1, *image_shape)
        pixels = images_to_patches(numbers, patch_size, per_channel=per_channel, pad_value=-1)
        self.pixels = pixels.reshape(-1, pixels.shape[-1])  # of each patch; -1 for the padding
        self.base: Any = None
        self.images: Any = None  # of the base

    def __call__(self, some):
        if not isinstance(some, Assignments):
            differ = some != some[:1]
            if np.count_nonzero(differ) >= _FEW * some.size:
                return self._whole(some)
            some = Assignments.among(some, differ)
        if len(some.row) >= _FEW * len(some) * some.base.shape[1]:
            return self._whole(some.whole())
        if some.base is not self.base:
            self.base, self.images = some.base, self._whole(some.base)
        images, tokens = self.images[some.of], self.vocabulary
        if tokens.ndim == 2:
            values = tokens[some.token]
        else:
            values = tokens[some.place % self.grid[2], some.token]
        at = self.pixels[some.place]
        inside = at >= 0
        flat = images.reshape(len(images), -1)
        row = np.broadcast_to(some.row[:, None], at.shape)
        flat[row[inside], at[inside]] = values[inside]
        return images

    def _whole(self, ids):
        return encoding.decode(ids.reshape(-1, *self.grid), **self.code)


class Images:
    """Images (m, ...) of assignments, each made when it is asked for, and anew each time.

    Parameters
    ----------
    decode : Decoder
    some : Assignments
    shape : tuple
        Of an image.
    """

    made_when_asked = True

    def __init__(self, decode, some, shape):
        self.decode, self.some, self.shape = decode, some, (len(some), *shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        """The images of a slice, ndarray (m, ...)."""
        images = self.decode(self.some[part])
        return images.reshape(len(images), *self.shape[1:])
