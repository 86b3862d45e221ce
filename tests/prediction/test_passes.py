"""A search asks a network for images in parts, made when their turn comes: nothing changes."""

import numpy as np
import pytest
import torch

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.networks import outputs
from sklearn_patchcert.networks.fitting.loops import BatchIterator
from sklearn_patchcert.prediction import image_certificates
from sklearn_patchcert.prediction.search.assignments import Assignments


class InPlace(torch.nn.Module):
    """A network whose first layer works in place, as torch's layers can."""

    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(64, 3)

    def forward(self, images):
        return self.dense(images.sub_(3.0).flatten(1))


class Doubled(BatchIterator):
    """Batches of a user who scales images on their way to the network."""

    def __iter__(self):
        return ((2 * X, y) for X, y in super().__iter__())


def model_of(digits, module=InPlace, **options):
    X, y = digits[0][:60].astype(np.float32), digits[1][:60] % 3
    vocabulary = PatchVocabulary(6, 2, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(module, max_epochs=2, random_state=0, **options)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y), X


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("parts", [2**20, 64 * 7])
def test_assignments_get_the_answers_of_predict(digits, monkeypatch, rows, parts):
    """Also of images before the last step that works in place, in batches of any size."""
    model, X = model_of(digits)
    X = X[:4] if rows else X[:4].reshape(-1, 8, 8)
    seen, real = [], image_certificates.reader

    def reader(estimator):
        read = real(estimator)

        def told(given):
            labels, sure = read(given)
            again = given[: len(given)]
            seen.append((model["clf"].predict(again)[sure] == labels[sure]).all())
            assert (again == given[: len(given)]).all()  # nobody has changed them
            assert type(given).__name__ == "Images"
            return labels, sure

        return told

    monkeypatch.setattr(image_certificates, "reader", reader)
    monkeypatch.setattr(outputs, "_VALUES", parts)
    found = model.certify_prediction(X, max_configurations=300)
    assert len(seen) > 4
    assert all(seen)
    monkeypatch.setattr(image_certificates, "reader", real)
    monkeypatch.setattr(outputs, "takes_parts", lambda net: False)
    whole = model.certify_prediction(X, max_configurations=300)
    for name in ("radius", "exact", "n_configurations", "upper", "adversarial"):
        np.testing.assert_array_equal(found[name], whole[name])


def test_outputs_in_parts_are_those_of_skorch_and_leave_images_as_they_are(digits):
    model, X = model_of(digits)
    net, images = model["clf"], X.reshape(-1, 8, 8, 1)
    given = images.copy()
    found, _ = outputs.raw_scores(net, images, [5, 0])
    np.testing.assert_array_equal(images, given)
    wanted = net.forward(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(found[:60], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[60:], wanted[[5, 0]], rtol=1e-5, atol=1e-5)
    net.module_.train()
    np.testing.assert_array_equal(outputs.raw_scores(net, images, [5, 0])[0], found)
    assert not net.module_.training


def test_data_sets_and_batches_of_a_user_are_asked_as_before(digits):
    model, X = model_of(digits, iterator_valid=Doubled)
    net = model["clf"]
    assert not outputs.takes_parts(net)
    found, _ = outputs.raw_scores(net, X, [3])
    wanted = net.forward(X.reshape(-1, 1, 8, 8)).numpy()
    np.testing.assert_allclose(found, wanted[[*range(60), 3]], rtol=1e-5, atol=1e-5)
    assert (net.predict(X) == net.classes_[found[:60].argmax(1)]).all()


def test_values_that_are_not_finite_are_refused_in_parts(digits):
    model, X = model_of(digits)
    with torch.no_grad():
        model["clf"].module_.dense.bias[0] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        outputs.raw_scores(model["clf"], X)


def test_parts_of_assignments_are_parts_of_their_ids():
    rng = np.random.default_rng(0)
    bases = rng.integers(9, size=(3, 20))
    parts = []
    for base in bases:
        row, place = np.nonzero(rng.random((5, 20)) < 0.1)
        token = rng.integers(9, size=len(row))
        parts.append(Assignments(base[None], np.zeros(5, dtype=np.int64), row, place, token))
    whole, ids = Assignments.joined(parts), np.concatenate([part.whole() for part in parts])
    np.testing.assert_array_equal(whole.whole(), ids)
    for part in (slice(0, 15), slice(3, 9), slice(14, 15), slice(7, 7), slice(12, 99)):
        np.testing.assert_array_equal(whole[part].whole(), ids[part])
        assert len(whole[part]) == len(ids[part])
