"""Models saved and loaded: the same answers to the last bit, and nothing lost in silence."""

import functools
import warnings

import numpy as np
import pytest
import torch
from persistence_for_tests import CASES, N, classifier, ids_model, network, vocabulary
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
    _version,
    load,
    save,
)
from sklearn_patchcert.files import archive, model_files


@pytest.fixture(scope="module")
def fitted(digits):
    """Function of a name: the model of that case, fitted once, its X and its y."""

    @functools.cache
    def fit(name):
        model, bring, relabel = CASES[name]
        X, y = digits
        X = X if bring is None else bring(X)
        y = y if relabel is None else relabel(y)
        if name == "frozen":
            model = CertifiedPatchClassifier(
                [("vocab", FrozenEstimator(vocabulary().fit(X[:N]))), ("clf", network())]
            )
        if name == "stickers on a frozen model":
            model = StickerCertifiedClassifier(FrozenEstimator(ids_model().fit(X[:N], y[:N])), 1)
        return model.fit(X[:N], y[:N]), X, y

    return fit


def there_and_back(model, folder, **options):
    save(model, folder / "model.patchcert", **options)
    return load(folder / "model.patchcert")


def answers(model, X):
    """All that a model says of images."""
    found = {}
    for method in ("predict", "predict_proba", "transform", "tokenize"):
        if hasattr(model, method):
            found[method] = getattr(model, method)(X)
    if isinstance(model, SmoothedClassifier):
        found["certify"], found["radii"] = model.certify(X)
    elif isinstance(model, StickerCertifiedClassifier | StickerCertifiedRegressor):
        found |= {key: one for key, one in model.certify(X[:5]).items() if one is not None}
        found["masks_"] = model.masks_
    elif hasattr(model, "certify"):
        found |= {norm: model.certify(X, norm) for norm in ("l2", "linf", "l1")}
    if hasattr(model, "certify_prediction") and not hasattr(X, "columns"):
        found |= model.certify_prediction(X[:3], max_configurations=200)
        found.pop("key", None)  # also of what predictions do not need
    if isinstance(model, PatchVocabulary) and hasattr(model, "n_features_in_"):
        found["names"] = model.get_feature_names_out()
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(other[name]), err_msg=name)
        assert type(value) is type(other[name])
        assert getattr(value, "dtype", None) == getattr(other[name], "dtype", None)


@pytest.mark.parametrize("name", CASES)
def test_the_loaded_model_says_the_same_to_the_last_bit(name, fitted, tmp_path):
    model, X, _ = fitted(name)
    images = X[N : N + 30]
    again = there_and_back(model, tmp_path)
    assert_same(answers(model, images), answers(again, images))


@pytest.mark.parametrize(
    "name",
    [
        "learned",
        "words",
        "robust",
        "frozen",
        "additive",
        "two outputs",
        "ids model",
        "committee",
        "stickers",
    ],
)
def test_the_loaded_model_is_the_same_to_clone_and_fit(name, fitted, tmp_path):
    model, X, y = fitted(name)
    again = there_and_back(model, tmp_path)
    assert repr(clone(again)) == repr(clone(model))
    one, other = (clone(m).fit(X[:N], y[:N]) for m in (model, again))
    assert_same(answers(one, X[N : N + 5]), answers(other, X[N : N + 5]))


def test_saving_twice_is_the_same_file(fitted, tmp_path):
    model, _, _ = fitted("classifier")
    save(model, tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_estimator_that_is_not_fitted(tmp_path):
    again = there_and_back(classifier(StandardScaler()), tmp_path)
    assert repr(again) == repr(classifier(StandardScaler()))


def test_tokens_of_ones_own_for_images_of_any_size(tmp_path):
    own = PatchVocabulary.from_tokens(np.eye(4, dtype=np.float32), patch_size=2)
    images = np.random.default_rng(0).random((3, 7, 5))
    assert_same(answers(own, images), answers(there_and_back(own, tmp_path), images))


def test_channels_with_different_numbers_of_tokens(tmp_path):
    X = np.zeros((20, 4, 4, 2))
    X[..., 0] = np.arange(20)[:, None, None]
    X[::2, ..., 1] = 1.0
    model = PatchVocabulary(3, 2, per_channel=True, strategy="kmeans", random_state=0)
    with pytest.warns(match="distinct patches"):
        model.fit(X)
    assert (model.vocabulary_[1, 1] == model.vocabulary_[1, 2]).all()
    assert_same(answers(model, X), answers(there_and_back(model, tmp_path), X))


def test_without_trim_the_training_goes_on_as_if_nothing_had_been(fitted, digits, tmp_path):
    X, y = digits
    model, _, _ = fitted("classifier")
    net, images = model[-1], model[:-1].transform(X[N : 2 * N])
    save(net, tmp_path / "trimmed")
    save(net, tmp_path / "whole", trim=False)
    sizes = [(tmp_path / name).stat().st_size for name in ("trimmed", "whole")]
    assert 2 * sizes[0] < sizes[1]
    whole, trimmed = load(tmp_path / "whole"), load(tmp_path / "trimmed")
    assert whole.history_.to_list() == net.history_.to_list()
    assert trimmed.history_[:, "train_loss"] == net.history_[:, "train_loss"]
    assert trimmed.history_[0]["batches"] == []
    expected = load(tmp_path / "whole")
    expected.optimizer_.load_state_dict(net.optimizer_.state_dict())
    expected.partial_fit(images, y[N : 2 * N])
    whole.partial_fit(images, y[N : 2 * N])
    trimmed.partial_fit(images, y[N : 2 * N])
    assert (whole.predict_proba(images) == expected.predict_proba(images)).all()
    assert (trimmed.predict_proba(images) != expected.predict_proba(images)).any()


def test_a_file_from_a_gpu_opens_where_there_is_none(fitted, tmp_path):
    model, X, _ = fitted("classifier")
    away = load_with(model, tmp_path, lambda m: m.set_params(vocab__device="cuda:99"))
    net = away[-1]
    net.__dict__["device"] = "cuda:99"  # as fitted there; nothing here can move it
    save(away, tmp_path / "gpu")
    content, arrays = archive.unpack((tmp_path / "gpu").read_bytes())
    assert str(content).count("cuda") == 2  # the two parameters, and no tensor of it
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    with pytest.warns(UserWarning, match="which is not here") as caught:
        again = load(tmp_path / "gpu")
    assert len(caught) == 2
    assert again.get_params()["vocab__device"] == again.get_params()["clf__device"] == "auto"
    assert_same(answers(model, X[:5]), answers(again, X[:5]))


def load_with(model, folder, change):
    return change(there_and_back(model, folder))


def test_a_torch_device_is_written_by_its_name(tmp_path):
    model = PatchVocabulary(device=torch.device("cpu"))
    assert there_and_back(model, tmp_path).device == "cpu"


def test_what_predictions_do_not_need_is_dropped_with_a_warning(fitted, tmp_path):
    model, X, _ = fitted("classifier")
    model = there_and_back(model, tmp_path).set_params(
        vocab__loss=lambda batch: 0.0,
        vocab__denoiser=np.sort,
        clf__augment=torch.flip,
        clf__callbacks=[EpochScoring("accuracy")],
        memory=str(tmp_path),
    )
    with pytest.warns(UserWarning, match="predictions do not need") as caught:
        save(model, tmp_path / "model")
    for name in ("loss", "denoiser", "augment", "callbacks", "memory"):
        assert f".{name}" in str(caught[0].message)
    again = load(tmp_path / "model")
    assert repr(clone(again)) == repr(clone(fitted("classifier")[0]))
    assert_same(answers(model, X[:5]), answers(again, X[:5]))


def test_compiled_networks_are_loaded_as_they_are(fitted, tmp_path):
    model, X, _ = fitted("classifier")
    net = there_and_back(model, tmp_path)[-1]
    net.__dict__["compile"] = True
    net.module_ = torch.compile(net.module_, backend="eager")
    with pytest.warns(UserWarning, match=r"need them: PatchNetClassifier\.compile\."):
        again = there_and_back(net, tmp_path)
    assert again.compile is False
    assert_same(answers(model[-1], X[:5]), answers(again, X[:5]))


def test_no_attribute_is_lost_in_silence(fitted, tmp_path):
    model = there_and_back(fitted("classifier")[0], tmp_path)
    model["vocab"].note_ = "mine"
    with pytest.raises(TypeError, match=r"has no place for \['note_'\]"):
        save(model, tmp_path / "other")
    del model["vocab"].note_
    del model["vocab"].token_counts_
    with pytest.raises(TypeError, match=r"\['token_counts_'\] are not there"):
        save(model, tmp_path / "other")


def test_what_could_not_be_loaded_is_not_saved(fitted, tmp_path):
    model = there_and_back(fitted("classifier")[0], tmp_path)
    before = (tmp_path / "model.patchcert").read_bytes()
    with torch.no_grad():
        next(model[-1].module_.parameters())[0] = torch.nan
    with pytest.raises(ValueError, match=r"could not be loaded again: .*weights are not finite"):
        save(model, tmp_path / "model.patchcert")
    assert (tmp_path / "model.patchcert").read_bytes() == before


def test_equal_arrays_are_kept_once_and_loaded_apart(fitted, tmp_path):
    inner = fitted("classifier")[0]
    model = SmoothedClassifier(FrozenEstimator(inner), n=5, n0=2, random_state=0)
    X, y = fitted("classifier")[1:]
    model.fit(X, y)
    save(inner, tmp_path / "one")
    save(model, tmp_path / "two")
    sizes = [(tmp_path / name).stat().st_size for name in ("one", "two")]
    assert sizes[1] < 1.5 * sizes[0]
    again = load(tmp_path / "two")
    one, other = (m.estimator["vocab"].vocabulary_ for m in (again.estimator, again.estimator_))
    one[:] = 0
    assert other.any()
    assert_same(answers(model, X[:4]), answers(load(tmp_path / "two"), X[:4]))


def test_the_version_of_the_library_is_compared(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "__version__", "99.0")
    save(fitted("kmeans")[0], tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "model")
    monkeypatch.undo()
    says = f"written by sklearn_patchcert 99.0 and is read by {_version.__version__}"
    with pytest.warns(UserWarning, match=says):
        load(tmp_path / "model")


def test_the_global_generator_is_left_alone(fitted, tmp_path):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    there_and_back(fitted("classifier")[0], tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
