"""Files with right checksums that would take time, memory, threads or sense: refused or bounded."""

import threading
import time
import tracemalloc

import numpy as np
import pytest
from hostile_makers import (
    CHAIN,
    array_changed,
    chain,
    committee_of,
    deep_dict,
    deep_list,
    edited,
    model_is,
    packed,
    repacked,
    step,
)
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import CategoricalNB
from sklearn.utils import estimator_html_repr

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    ModelFileError,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    load,
    save,
)
from sklearn_patchcert.files import archive, descriptions, values
from sklearn_patchcert.files.budgets import MOST_ESTIMATORS
from sklearn_patchcert.networks.modules import ImageResNet


def opened(data, folder, **options):
    path = folder / "model.patchcert"
    path.write_bytes(data)
    return load(path, **options)


NESTED = {  # a chain, or lists in lists, in a place where they may be, or in one where nothing is
    "estimators in estimators": lambda: model_is(chain(14)),
    "committees in committees": lambda: model_is(committee_of(14, 1)),
    "very many": lambda: model_is(committee_of(4, 6)),
    "an option": lambda: edited(1, "params", "n_tokens", CHAIN),
    "an option in a list": lambda: edited(1, "params", "patch_size", {"tuple": [4, CHAIN]}),
    "an option of a network": lambda: edited(2, "params", "adversarial_steps", CHAIN),
    "an option of a module": lambda: edited(2, "params", "module__width", CHAIN),
    "the name of a module": lambda: edited(2, "params", "module", CHAIN),
    "an attribute": lambda: edited(1, "fitted", "per_channel_", CHAIN),
    "classes": lambda: edited(2, "fitted", "classes_inferred_", CHAIN),
    "a state": lambda: repacked(lambda c, a: step(c, 2).update(state=CHAIN)),
    "threads": lambda: edited(1, "params", "n_jobs", CHAIN),
    "device": lambda: edited(1, "params", "device", CHAIN),
    "output": lambda: repacked(lambda c, a: step(c, 1).update(output=CHAIN)),
    "lists": lambda: edited(1, "params", "image_shape", deep_list(90)),
    "dicts": lambda: edited(1, "params", "image_shape", deep_dict(40)),
    "lists of an attribute": lambda: edited(1, "fitted", "history_", deep_list(90)),
    "lists of a state": lambda: repacked(lambda c, a: step(c, 2).update(state=deep_list(90))),
    "class that is a list": lambda: model_is({"class": deep_list(50), "params": {}, "fitted": {}}),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_what_is_nested_too_deep_is_refused_at_once(name, tmp_path):
    data = NESTED[name]()
    start = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        opened(data, tmp_path)
    assert time.process_time() - start < 1
    assert "FrozenEstimator(" not in str(caught.value)


@pytest.mark.parametrize(
    "description",
    [chain(7), committee_of(7, 1), committee_of(1, 100)],
    ids=["chain", "committees", "members"],
)
def test_what_is_nested_as_deep_as_allowed_is_quick_to_show_and_clone(description, tmp_path):
    model = opened(model_is(description), tmp_path)
    start = time.process_time()
    repr(model), estimator_html_repr(model), clone(model), model.get_params()
    assert time.process_time() - start < 2


def test_models_are_nested_less_deep_than_files_may_be(tmp_path):
    X, y = load_digits(return_X_y=True)
    vocabulary = FrozenEstimator(PatchVocabulary.from_tokens(np.eye(16), patch_size=4).fit(X[:9]))
    net = PatchNetClassifier(max_epochs=1, random_state=0, module__width=2, module__hidden=2)
    member = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
    members = [(f"m{i}", FrozenEstimator(member.fit(X[:50], y[:50]))) for i in range(3)]
    committee = CertifiedCommittee(members).fit(X[:50], y[:50])
    model = SmoothedClassifier(FrozenEstimator(committee), n=5, n0=2, random_state=0)
    again = opened(packed(model.fit(X[:50], y[:50])), tmp_path)
    np.testing.assert_array_equal(again.predict(X[:3]), model.predict(X[:3]))
    assert MOST_ESTIMATORS > 4


def references(times):
    """An array that many parameters refer to, each of which would get a copy of its own."""

    def change(content, arrays):
        arrays["big"] = np.zeros(2**20)
        step(content, 1)["params"]["image_shape"] = [{"array": "big"}] * times

    return repacked(change)


def hollow(content, arrays):
    arrays["hollow"] = np.zeros((2**40, 0), dtype=np.uint8)
    step(content, 1)["params"]["image_shape"] = {"array": "hollow"}


BOMBS = {
    "texts": lambda: edited(
        2, "fitted", "classes_inferred_", [{"texts": [2**24, ["a"]]}] * 25
    ),
    "one text": lambda: edited(2, "fitted", "classes_inferred_", {"texts": [2**24, ["a"]]}),
    "references": lambda: references(60),
    "an array of nothing": lambda: repacked(hollow),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory(name, tmp_path):
    data = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"bytes|n_outputs_"):
            opened(data, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(data) + 2**26 + 2**24


def test_max_bytes_bounds_what_is_made_of_a_file(tmp_path):
    data = references(3)
    opened(data, tmp_path)
    with pytest.raises(ModelFileError, match=r"pass a larger max_bytes"):
        opened(data, tmp_path, max_bytes=len(data) + 1)


def test_large_models_load(tmp_path):
    tokens = np.random.default_rng(0).random((30_000, 4), dtype=np.float32)
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=2, image_shape=(8, 8, 1))
    net = PatchNetClassifier(ImageResNet, max_epochs=1, random_state=0, batch_size=8)
    X, y = np.random.default_rng(1).random((8, 64), dtype=np.float32), np.arange(8) % 2
    model = CertifiedPatchClassifier([("vocab", FrozenEstimator(vocabulary)), ("clf", net)])
    model.fit(X, y)
    members = [(f"m{i}", FrozenEstimator(model)) for i in range(3)]
    save(CertifiedCommittee(members).fit(X, y), tmp_path / "model")
    again = load(tmp_path / "model").estimators_[2].estimator
    np.testing.assert_array_equal(again.predict(X[:2]), model.predict(X[:2]))


# --- what a model would take when it is used


@pytest.mark.parametrize(("jobs", "cores", "becomes"), [(4096, 4, 4), (-4096, 4, -4096), (3, 4, 3)])
def test_a_file_gets_no_more_threads_than_there_are_cores(
    jobs, cores, becomes, tmp_path, monkeypatch
):
    monkeypatch.setattr(descriptions, "cpu_count", lambda: cores)
    data = edited(1, "params", "n_jobs", jobs)
    if becomes == jobs:
        model = opened(data, tmp_path)
    else:
        with pytest.warns(UserWarning, match=f"n_jobs={jobs}, .* {cores} cores"):
            model = opened(data, tmp_path)
    assert model["vocab"].n_jobs == becomes
    before = threading.active_count()
    model.certify(np.repeat(load_digits().data, 2, axis=0))
    assert threading.active_count() - before <= 2 * cores


def smoothed(name, value):
    X, y = load_digits(return_X_y=True)
    net = PatchNetClassifier(max_epochs=0, module__width=2, module__hidden=2)
    steps = [("vocab", PatchVocabulary(4, strategy="kmeans", random_state=0)), ("clf", net)]
    data = packed(SmoothedClassifier(CertifiedPatchClassifier(steps), n=5).fit(X[:40], y[:40]))
    content, arrays = archive.unpack(data)
    content["model"]["params"][name] = value
    return archive.pack(content, arrays)


def masked(name, value):
    X, y = load_digits(return_X_y=True)
    vocabulary = PatchVocabulary(4, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=4))]
    model = StickerCertifiedClassifier(CertifiedPatchClassifier(steps), 1)
    content, arrays = archive.unpack(packed(model.fit(X[:40], y[:40])))
    fitted, params = content["model"]["fitted"], content["model"]["params"]
    if name == "mask_values_":
        arrays[fitted[name]["array"]] = value
    else:
        (fitted if name in fitted else params)[name] = values.encode(value, {}, name)
    return archive.pack(content, arrays)


MASKS = {
    "no plan": ("mask_plan_", (((2, 2),), None)),
    "another number of stickers": ("mask_plan_", (((1, 1),), None, 3)),
    "windows beyond the image": ("mask_plan_", (((3, 3),), None, 1)),
    "no masks": ("mask_plan_", (((1, 1),), (0, 0), 1)),
    "too many pairs": ("mask_plan_", (tuple((1, 1) for _ in range(99)), None, 2)),
    "another space": ("mask_space_", "pixels"),
    "another grid": ("grid_", (4, 4)),
    "another cell": ("cell_size_", (2, 2)),
    "another shape": ("given_shape_", (3,)),
    "a layout that no ids have": ("given_shape_", (2, 2)),
    "masks of larger stickers": ("mask_plan_", (((2, 2),), None, 1)),
    "stickers of all sizes": ("sticker_size", 50),
    "stickers of no size": ("sticker_size", 0),
    "stickers that are too wide": ("sticker_size", [1, (1, 2)]),
    "two stickers, and masks of one": ("n_stickers", 2),
    "another size": ("n_features_in_", 63),
    "tokens that are not there": ("mask_values_", np.array([0, 1, 2, 4])),
    "too few values": ("mask_values_", np.array([0, 1, 2])),
    "no tokens": ("mask_values_", np.array([0.0, 1.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_no_fit_would_leave_are_refused(name, tmp_path):
    with pytest.raises(ModelFileError):
        opened(masked(*MASKS[name]), tmp_path)


def test_masks_that_a_fit_leaves_are_taken(tmp_path):
    opened(masked("mask_plan_", (((1, 1),), (2, 2), 1)), tmp_path)


DEMANDS = {
    "no threads": (lambda: edited(1, "params", "n_jobs", 0), "n_jobs is 0"),
    "batches without end": (lambda: edited(2, "params", "batch_size", 10**12), "batch_size"),
    "copies without end": (lambda: smoothed("n", 10**12), "n is 10{12}"),
    "first copies without end": (lambda: smoothed("n0", 10**12), "n0 is 10{12}"),
    "copies at once": (lambda: smoothed("batch_size", 10**12), "batch_size is 10{12}"),
}


@pytest.mark.parametrize("name", DEMANDS)
def test_what_no_machine_has_is_refused(name, tmp_path):
    make, says = DEMANDS[name]
    with pytest.raises(ModelFileError, match=says):
        opened(make(), tmp_path)


def first_is(value):
    def change(array):
        array.reshape(-1)[0] = value
        return array

    return change


def whitened():
    X, y = load_digits(return_X_y=True)
    net = PatchNetClassifier(ImageResNet, max_epochs=1, random_state=0, module__width=1)
    steps = [("vocab", PatchVocabulary(4, strategy="kmeans", random_state=0)), ("clf", net)]
    return packed(CertifiedPatchClassifier(steps).fit(X[:20], y[:20]))


BUFFERS = {
    "running_var": ("features.1.running_var", -1.0),
    "running_var by a little": ("features.1.running_var", -1e-4),
    "running_var of a block": ("features.7.inner.4.running_var", -3.0),
    "num_batches_tracked": ("features.1.num_batches_tracked", -1),
    "std 0": (".weights.std", 0.0),
    "std below 0": (".weights.std", -1.0),
    "std too small": (".weights.std", 1e-44),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_that_make_predictions_nan_are_named(name, tmp_path):
    ending, value = BUFFERS[name]

    def change(content, arrays):  # an array that is kept once may be several buffers'
        net = content["model"]["params"]["steps"][1]["tuple"][1]["estimator"]
        (place,) = (pair[1] for pair in net["state"]["dict"][0][1]["dict"]
                    if f".weights.{pair[0]}".endswith(ending))  # fmt: skip
        place["tensor"], before = "another", arrays[place["tensor"]]
        arrays["another"] = first_is(value)(before.copy())

    buffer = ending.removeprefix(".weights.")
    with pytest.raises(ModelFileError, match=buffer.replace(".", r"\.")):
        opened(repacked(change, whitened), tmp_path)


@pytest.mark.parametrize(("ending", "value"), [("exp_avg", np.nan), ("exp_avg_sq", -1.0)])
def test_the_memory_of_an_optimizer_makes_no_nan(ending, value, tmp_path):
    data = array_changed(f"[2][1].optimizer.state.0.{ending}", first_is(value))
    with pytest.raises(ModelFileError, match=ending):
        opened(data, tmp_path)


def test_a_network_whose_outputs_overflow_predicts_nothing(tmp_path):
    def change(content, arrays):
        for name in arrays:
            if name.endswith("weight"):
                arrays[name] = np.full_like(arrays[name], 1e38)

    model = opened(repacked(change), tmp_path)
    X = load_digits().data[:3]
    for method in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match="outputs of the network are not finite"):
            method(X)
