"""Files that were written before modules moved still load, to the same bits."""

from pathlib import Path

import numpy as np
import pytest

from sklearn_patchcert import CertifiedCommittee, CertifiedPatchClassifier, load, save

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def expected():
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


@pytest.fixture
def some(digits):
    return digits[0][400:420]  # of those after the images that the models were fitted to


@pytest.mark.parametrize("again", [False, True], ids=["as it was", "written again"])
def test_a_network_after_tokens(expected, some, again, tmp_path):
    model = load(DATA / "network.patchcert")
    if again:
        save(model, tmp_path / "again.patchcert")
        model = load(tmp_path / "again.patchcert")
    assert type(model) is CertifiedPatchClassifier
    np.testing.assert_array_equal(model.certify(some), expected["network_radii"])
    np.testing.assert_array_equal(model.certify(some, "linf"), expected["network_linf"])
    tokens = model["vocab"].tokenize(model[0].transform(some))
    np.testing.assert_array_equal(tokens, expected["network_tokens"])
    np.testing.assert_array_equal(model.predict(some), expected["network_prediction"])
    assert (model.certify_prediction(some[:3], max_configurations=50).radius > 0).any()


@pytest.mark.parametrize("again", [False, True], ids=["as it was", "written again"])
def test_a_committee_of_tables_of_tokens(expected, some, again, tmp_path):
    model = load(DATA / "committee.patchcert")
    if again:
        save(model, tmp_path / "again.patchcert")
        model = load(tmp_path / "again.patchcert")
    assert type(model) is CertifiedCommittee
    np.testing.assert_array_equal(model.predict(some), expected["committee_prediction"])
    for member, name in zip(model.estimators_, ("first", "second"), strict=True):
        np.testing.assert_array_equal(member.certify(some), expected[f"committee_{name}"])
