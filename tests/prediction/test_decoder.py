"""Images of assignments that differ in few patches are those that the vocabulary makes."""

import numpy as np
import pytest

from sklearn_patchcert.prediction.search.images import Decoder
from sklearn_patchcert.vocabulary import encoding


@pytest.mark.parametrize("per_channel", [False, True, "shared"])
@pytest.mark.parametrize("shape", [(12, 12, 3), (11, 13, 2)])
@pytest.mark.parametrize("patch_size", [(1, 1), (2, 3)])
def test_few_changes_and_many(per_channel, shape, patch_size):
    rng = np.random.default_rng(0)
    groups = shape[2] if per_channel else 1
    dim = patch_size[0] * patch_size[1] * shape[2] // groups
    own = (groups,) if per_channel is True else ()
    tokens = rng.random((*own, 5, dim)).astype(np.float32)
    grid = -(-shape[0] // patch_size[0]), -(-shape[1] // patch_size[1]), groups
    code = {"vocabulary": tokens, "patch_size": patch_size, "per_channel": bool(per_channel)}
    decode = Decoder(grid, shape, **code)
    ids = rng.integers(5, size=np.prod(grid))
    for share in (0.0, 0.02, 1.0, 0.02, 0.0):
        some = np.repeat(ids[None], 7, axis=0)
        other = rng.random(some.shape) < share
        some[other] = rng.integers(5, size=other.sum())
        wanted = encoding.decode(some.reshape(-1, *grid), image_shape=shape, **code)
        found = decode(some)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
        found += 1  # nobody else's array
    assert decode(some[:0]).shape == (0, *shape)
