"""Patches -> images -> patches is the identity, whatever the sizes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert.patches import (
    PAD_VALUE,
    grid_shape,
    images_to_patches,
    patch_weights,
    patches_to_images,
)

SIZES = st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 4))
PATCHES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, derandomize=True)
@given(SIZES, PATCHES, st.booleans(), st.integers(1, 3))
def test_round_trip(shape, patch_size, per_channel, n):
    images = np.arange(n * np.prod(shape), dtype=float).reshape(n, *shape) + 1
    patches = images_to_patches(images, patch_size, per_channel=per_channel)
    groups = shape[2] if per_channel else 1
    assert patches.shape[:4] == (n, *grid_shape(shape, patch_size), groups)
    back = patches_to_images(patches, shape, patch_size, per_channel=per_channel)
    np.testing.assert_array_equal(back, images)
    # Every pixel is in one patch, and all the rest is padding.
    assert (patches != PAD_VALUE).sum() == images.size
    # The weights know the padding from the pixels.
    weights = patch_weights(1.0, shape, patch_size, per_channel=per_channel)
    np.testing.assert_array_equal(weights > 0, patches[0] != PAD_VALUE)


def test_a_patch_is_what_one_sees():
    image = np.arange(4 * 6 * 2).reshape(1, 4, 6, 2)
    patches = images_to_patches(image, (2, 3))
    np.testing.assert_array_equal(patches[0, 1, 1, 0], image[0, 2:4, 3:6].ravel())
    patches = images_to_patches(image, (2, 3), per_channel=True)
    np.testing.assert_array_equal(patches[0, 1, 1, 1], image[0, 2:4, 3:6, 1].ravel())


def test_weights_follow_the_scale():
    scale = -np.arange(1.0, 13.0).reshape(2, 3, 2)
    weights = patch_weights(scale, (2, 3, 2), (2, 2), per_channel=True)
    np.testing.assert_array_equal(weights[0, 1, 0], [5, 0, 11, 0])
