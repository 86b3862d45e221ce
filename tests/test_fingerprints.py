"""Fingerprints: the same for what is the same, others for all else."""

import copy
import functools
import io
import operator

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_patchcert import PatchNetClassifier
from sklearn_patchcert.fingerprints import fingerprint

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(NESTED, NESTED)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_same_for_the_same_and_others_for_others(one, other):
    assert fingerprint(one) == fingerprint(copy.deepcopy(one))
    same = fingerprint(one) == fingerprint(other)
    assert same == (told(one) == told(other))


def told(value):
    """All that a value says, its types included, to be compared."""
    if isinstance(value, dict):
        return "dict", sorted((key, told(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [told(part) for part in value]
    return type(value).__name__, repr(value)


def circle(n):
    """A list in a list ... n deep, the innermost of which holds the outermost."""
    first = []
    last = first
    for _ in range(n):
        last.append([])
        last = last[0]
    last.append(first)
    return first


DIFFERENT = [
    [1, 1.0, True, "1", b"1", None, 1j],
    [np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros(4, np.int64), [0.0] * 4],
    [np.array([0.0]), np.array([-0.0]), np.array([5e-324]), np.array([np.nan])],
    [np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)],
    [np.zeros(2, [("a", "f4")]), np.zeros(2, [("b", "f4")]), np.ones(2, [("a", "f4")])],
    [torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, 1)],
    [[], [[]], [[[]]], (), {}, set(), frozenset()],
    [{1: [2]}, {1: (2,)}, {1: 2}, [(1, 2)]],
    [circle(n) for n in range(4)],
    [len, max, abs, np.add, operator.add, float, np.float64, [1].append, [2].append, "ab".join],
    [functools.partial(np.add, 1), functools.partial(np.add, 2)],
    [torch.nn.ReLU(), torch.nn.GELU(), torch.nn.Identity(), torch.nn.ReLU(inplace=True)],
    [StandardScaler(), StandardScaler(with_std=False), FunctionTransformer(np.log)],
    [np.random.default_rng(0), np.random.default_rng(1), np.random.RandomState(0)],
]


@pytest.mark.parametrize("values", DIFFERENT, ids=range(len(DIFFERENT)))
def test_no_two_of_these_are_the_same(values):
    assert len({fingerprint(value) for value in values}) == len(values)
    for value in values:
        assert fingerprint(value) == fingerprint(value)


def test_how_an_object_holds_something_does_not_matter(tmp_path):
    array = np.random.default_rng(0).random((6, 4))
    np.save(tmp_path / "array.npy", array)
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    text = "".join(["t", "ext"])
    pairs = [
        (array, np.asfortranarray(array)),
        (array, np.repeat(array, 2, axis=1)[:, ::2]),
        (array, mapped),
        ([array, array], [array, array.copy()]),
        (["text", text], [text, text]),
        (np.float64(0.5), 0.5),
        (np.str_("a"), "a"),
        (StandardScaler(), StandardScaler().set_params(copy=True)),
        (torch.zeros(2, 3), torch.zeros(3, 2).T),
        (torch.nn.Dropout().train(), torch.nn.Dropout().eval()),
    ]
    for one, other in pairs:
        assert fingerprint(one) == fingerprint(other)


def test_bytes_between_the_fields_do_not_matter():
    kind = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True)
    one, other = np.zeros(3, kind), np.full(3 * kind.itemsize, 7, np.uint8).view(kind)
    other["a"], other["b"] = 0, 0
    assert one.tobytes() != other.tobytes()
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(3, random_state=0), PatchNetClassifier(max_epochs=1, random_state=0)],
)
def test_models_keep_theirs_through_a_file_and_change_it_with_what_they_learn(model):
    X, y = load_digits(return_X_y=True)
    model.fit(X[:200], y[:200])
    before = fingerprint(model)
    model.predict(X)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    again = joblib.load(file)
    assert fingerprint(again.set_params(n_jobs=2) if hasattr(again, "n_jobs") else again) == before
    assert fingerprint(again.fit(X[:201], y[:201])) != before


def test_what_cannot_be_taken_apart_is_never_the_same():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in (
        lambda: 0,
        FunctionTransformer(lambda x: x),
        memoryview(b"1"),
        deep,
        (i for i in []),
    ):
        assert fingerprint(value) != fingerprint(value)
