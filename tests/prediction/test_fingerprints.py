"""The fingerprint of an object: the same for the same state, in whatever order its sets are.

Each process orders its sets of strings by hashes of its own, so that a file read in another
process has them in another order.
"""

from types import SimpleNamespace

import pytest

from sklearn_patchcert.prediction.fingerprints import fingerprint

# Equal sets with another order of iteration: 0, 8 and 16 meet in the same slot of the table.
ONE, OTHER = [0, 8, 16], [16, 8, 0]


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize(
    "around",
    [
        lambda value: value,
        lambda value: [value, {"deeper": value}],
        lambda value: SimpleNamespace(attribute=value),
        lambda value: {(0, frozenset([*value])), (1, "one")},
    ],
    ids=["alone", "in containers", "in an object", "in a set"],
)
def test_order_of_sets_does_not_matter(kind, around):
    assert list(kind(ONE)) != list(kind(OTHER))
    assert fingerprint(around(kind(ONE))) == fingerprint(around(kind(OTHER)))
    assert fingerprint(around(kind(ONE))) != fingerprint(around(kind([0, 8, 17])))


def test_kind_of_set_matters():
    assert fingerprint({1}) != fingerprint(frozenset({1})) != fingerprint([1])
    assert fingerprint(set()) != fingerprint(frozenset()) != fingerprint(None)
