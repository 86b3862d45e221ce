"""Torch's global settings: the same results under all of them, and each is left as it was."""

import contextlib
import copy
import operator
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    load,
    save,
)
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.modules import AdditivePatchNet
from sklearn_patchcert.torch_globals import plain_torch
from sklearn_patchcert.voronoi import certificate, preparation


@contextlib.contextmanager
def setting(get, put, value):
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def dtype(value):
    return setting(torch.get_default_dtype, torch.set_default_dtype, value)


def precision(value):
    return setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, value)


def flag(place, value):
    """One of the newer flags of precision, which torch lets nobody mix with the older."""
    owner = owner_of(place)
    return setting(lambda: owner.fp32_precision, partial(setattr, owner, "fp32_precision"), value)


def owner_of(place):
    return operator.attrgetter(place)(torch.backends) if place else torch.backends


@contextlib.contextmanager
def device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


GLOBALS = {
    "float64": lambda: dtype(torch.float64),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "medium": lambda: precision("medium"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: device("meta"),
}
NEWER = hasattr(torch.backends, "fp32_precision")
LEAVES = [
    *(f"cudnn.{name}" for name in ("conv", "rnn")),
    *(f"mkldnn.{name}" for name in ("conv", "rnn", "matmul")),
    "cuda.matmul",
]
if NEWER:
    GLOBALS["new flag"] = lambda: flag("mkldnn.matmul", "bf16")


def state():
    """What torch can be told for a whole process or thread."""
    found = {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "generator": torch.get_rng_state().numpy().tobytes(),
    }
    for name, get in (
        ("matmul", torch.get_float32_matmul_precision),
        ("cudnn", lambda: torch.backends.cudnn.allow_tf32),
    ):
        with contextlib.suppress(RuntimeError):  # where newer flags say something else
            found[name] = get()
    return {**found, **{name: owner_of(name).fp32_precision for name in LEAVES if NEWER}}


def small(kind=PatchNetClassifier, **options):
    if "module" not in options:
        options = {"module__width": 4, "module__hidden": 8, **options}
    return kind(**{"max_epochs": 1, "batch_size": 50, "random_state": 0, "lr": 0.01, **options})


def vocabulary(**options):
    small = {"n_tokens": 8, "patch_size": 4, "strategy": "kmeans", "max_iter": 2, "random_state": 0}
    return PatchVocabulary(**{**small, **options})


def weights(net):
    return [value.numpy() for value in net.module_.state_dict().values()]


def fitted_vocabulary(**options):
    def task(X, y, made):
        found = vocabulary(**options).fit(X, y)
        if options.get("strategy") != "supervised":
            found.partial_fit(X[:70])
        return found.vocabulary_, np.array(found.history_), found.transform(X), found.certify(X)

    return task


def fitted_net(**options):
    def task(X, y, made):
        net = small(**options).fit(X, y)
        return [*weights(net), np.array(net.history_[:, "train_loss"])]

    return task


def fitted_pipeline(**options):
    def task(X, y, made):
        steps = [("vocab", vocabulary()), ("clf", small(**options))]
        model = CertifiedPatchClassifier(steps).fit(X, y)
        return [*weights(model[-1]), model.predict(X)]

    return task


def more_of(net, X, y):
    return [*weights(net.partial_fit(X, y)), net.predict(X)]


def certified_by(engine):
    def task(X, y, made):
        tokens, noise = X[:9, None], np.full((100, 1), 0.1)
        preparation._prepare.cache_clear()
        ids = certificate.tokenize(X[:, None], tokens[:, 0], engine=engine)
        found = certificate.certify(X[:100, None], tokens[:, 0], noise=noise, engine=engine)
        return [ids, *found]

    return task


TASKS = {
    "kmeans": fitted_vocabulary(),
    "learned": fitted_vocabulary(strategy="learned", entropy_weight=0.1, structure_weight=0.1),
    "soft": fitted_vocabulary(strategy="learned", soft_temperature=(1.0, 0.1), noise_std=0.5),
    "denoised": fitted_vocabulary(strategy="denoised", denoiser=lambda images: images),
    "supervised": fitted_vocabulary(strategy="supervised", patch_size=8, n_tokens=20),
    "dense engine": certified_by("dense"),
    "two-pass engine": certified_by("two_pass"),
    "network": fitted_net(),
    "regressor": fitted_net(kind=PatchNetRegressor),
    "whitening": fitted_net(module=WhiteningConvNet, module__width=4),
    "attacked network": fitted_net(adversarial_radius=1.0, adversarial_steps=1, noise_std=0.5),
    "flips": fitted_pipeline(flip_radius=1.0, noise_std=0.5),
    "additive": fitted_pipeline(module=AdditivePatchNet, module__width=4, certified_radius=1.0),
    "predict": lambda X, y, made: [made["net"].predict_proba(X), made["net"].predict_proba(X[:1])],
    "terms": lambda X, y, made: [made["additive"][-1].terms(X)],
    "partial_fit": lambda X, y, made: more_of(copy.deepcopy(made["net"]), X, y),
    "pickle": lambda X, y, made: more_of(pickle.loads(made["pickle"]), X, y),
    "file": lambda X, y, made: more_of(load(made["file"]), X, y),
    "certify_prediction": lambda X, y, made: list(
        made["pipeline"].certify_prediction(X[:3], max_configurations=200).values()
    )[:6],
    "additive certificate": lambda X, y, made: [
        made["additive"].certify_prediction(X[:5], method="additive").radius
    ],
    "smoothed": lambda X, y, made: made["smoothed"].certify(X[:3]),
}


@pytest.fixture(scope="module")
def made(few, tmp_path_factory):
    X, y = few
    net = small(max_epochs=2).fit(X, y)
    pipeline = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", small())]).fit(X, y)
    additive = small(module=AdditivePatchNet, module__width=4)
    additive = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", additive)]).fit(X, y)
    path = tmp_path_factory.mktemp("models") / "net.patchcert"
    save(net, path)
    smoothed = SmoothedClassifier(small(), sigma=1.0, n0=20, n=50, random_state=0).fit(X, y)
    found = {"net": net, "pipeline": pipeline, "additive": additive, "smoothed": smoothed}
    return {**found, "file": path, "pickle": pickle.dumps(net)}


@pytest.fixture(scope="module")
def wanted(few, made):
    return {name: task(*few, made) for name, task in TASKS.items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", GLOBALS)
def test_results_are_the_same_and_the_setting_stays(few, made, wanted, name, task):
    with GLOBALS[name]():
        before = state()
        found = TASKS[task](*few, made)
        after = state()
    assert before == after
    assert len(found) == len(wanted[task])
    for one, other in zip(found, wanted[task], strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


FLAGS = {
    "nothing": [],
    "high": [lambda: precision("high")],
    "medium": [lambda: precision("medium")],
    "cublas": [partial(setattr, torch.backends.cuda.matmul, "allow_tf32", True)],
    "no cudnn": [partial(setattr, torch.backends.cudnn, "allow_tf32", False)],
}
if NEWER:
    FLAGS |= {
        f"{place or 'all'} {value}": [partial(flag, place, value)]
        for place in ("", "cudnn", *LEAVES)
        for value in ("tf32", "ieee")
    }
    FLAGS |= {
        "mkldnn bf16": [partial(flag, "mkldnn.conv", "bf16"), partial(flag, "mkldnn.rnn", "bf16")],
        "medium, then tf32": [FLAGS["medium"][0], partial(flag, "mkldnn.matmul", "tf32")],
        "medium below tf32": [partial(flag, "", "tf32"), FLAGS["medium"][0]],
    }


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("training", [False, True])
def test_every_flag_of_precision_is_full_inside_and_as_it_was_behind(name, training):
    with contextlib.ExitStack() as settings:
        for change in FLAGS[name]:
            entered = change()
            if entered is not None:
                settings.enter_context(entered)
        before = state()
        with plain_torch(training=training):
            inside = state()
            with plain_torch():
                pass
            assert state() == inside
        assert state() == before
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    assert inside["matmul"] == "highest"
    full = [name for name in LEAVES if NEWER and not (training and name.startswith("cudnn"))]
    assert {inside[name] for name in full} <= {"ieee", "none"}
    assert training or inside.get("cudnn") in (False, None)


@pytest.mark.parametrize("name", GLOBALS)
def test_settings_come_back_where_the_block_fails(name):
    with GLOBALS[name]():
        before = state()
        with pytest.raises(ArithmeticError), plain_torch(training=True):
            raise ArithmeticError
        assert state() == before


def test_the_last_of_several_threads_puts_settings_back():
    entered, left = threading.Event(), threading.Event()
    seen = []

    def longer():
        with plain_torch():
            entered.set()
            left.wait(10)
            seen.append(torch.get_default_dtype())

    with dtype(torch.float64):
        other = threading.Thread(target=longer)
        with plain_torch():
            other.start()
            assert entered.wait(10)
        assert torch.get_default_dtype() == torch.float32  # somebody is still inside
        left.set()
        other.join()
        assert seen == [torch.float32]
        assert torch.get_default_dtype() == torch.float64
