"""Images made of tokens, for assignments that differ in few patches."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.vocabulary import encoding

_FEW = 0.05  # of the patches, which are put into a copy of another image


class Decoder:
    """Function of token ids (m, positions) to images (m, H, W, C), as the vocabulary makes them.

    Most assignments of a search differ in few patches from the ones before.

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
        self.ids: Any = None
        self.image: Any = None

    def __call__(self, ids):
        if not len(ids):
            return self._whole(ids)
        if self.ids is None:
            self.ids, self.image = ids[0].copy(), self._whole(ids[:1])
        row, place = np.nonzero(ids != self.ids)
        if len(row) > _FEW * ids.size:  # of another image
            self.ids = None
            return self._whole(ids)
        images = np.repeat(self.image, len(ids), axis=0)
        tokens = self.vocabulary
        if tokens.ndim == 2:
            values = tokens[ids[row, place]]
        else:
            values = tokens[place % self.grid[2], ids[row, place]]
        at = self.pixels[place]
        inside = at >= 0
        flat = images.reshape(len(ids), -1)
        flat[np.broadcast_to(row[:, None], at.shape)[inside], at[inside]] = values[inside]
        return images

    def _whole(self, ids):
        return encoding.decode(ids.reshape(-1, *self.grid), **self.code)
