"""Model files with any bit or any value changed: the error, or a model that load knows."""

import contextlib
import copy
import json

import pytest
from hostile_makers import (
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert import ModelFileError
from sklearn_patchcert.files import archive, model_files
from sklearn_patchcert.files.known_classes import known_classes


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_flipped_bits_of_a_whole_model_are_found(data):
    damaged = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))]
    if bytes(damaged) != whole():
        with pytest.raises(ModelFileError):
            archive.unpack(bytes(damaged))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats(-1e3, 1e3) | st.text(max_size=4)
    | st.sampled_from([{"array": "x"}, {"tuple": [8, 8, 1]}, {"float": "nan"}, {"tensor": "x"}]),
    lambda inner: st.lists(inner, max_size=3)
    | st.fixed_dictionaries({"tuple": st.lists(inner, max_size=3)})
    | st.fixed_dictionaries({"dict": st.lists(st.tuples(st.text(max_size=3), inner), max_size=2)}),
    max_leaves=6,
)  # fmt: skip


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_change_of_the_description_gives_a_model_or_the_error(data):
    """With right checksums: whatever stands in a place, load knows what to do with it."""
    content, arrays = archive.unpack(whole())
    content = copy.deepcopy(content)
    place, key = content, "model"
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 9)) > 0:
        place = place[key]
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    if data.draw(st.booleans()):
        place[key] = data.draw(JSON)
    else:
        del place[key]
    content = json.loads(json.dumps(content, allow_nan=False))
    with contextlib.suppress(ModelFileError):
        model, _, _ = model_files._opened(content, arrays)
        assert isinstance(model, tuple(known.kind for known in known_classes().values()))
