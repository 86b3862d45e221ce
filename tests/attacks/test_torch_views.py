"""Fitted classifiers as torch modules, as the attack libraries of others use them."""

import copy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.modules import (
    AdditivePatchNet,
    ImageResNet,
    PatchConvNet,
    PatchResNet,
)

GRADIENTS = ["bpda", "soft", "none"]
CODES = [False, "shared", True]


@pytest.fixture(scope="module")
def data():
    """Color images of 5 x 7 pixels, which patches of 2 x 2 do not cover evenly."""
    random = np.random.default_rng(0)
    y = np.arange(80) % 3
    X = random.random((80, 5, 7, 3)) + 0.3 * y[:, None, None, None]
    return X, y


@pytest.fixture(scope="module")
def models(data):
    X, y = data
    made = {}
    for per_channel in CODES:
        vocabulary = PatchVocabulary(
            6, 2, per_channel=per_channel, strategy="kmeans", random_state=0
        )
        net = PatchNetClassifier(
            max_epochs=3, batch_size=16, module__width=4, module__hidden=8, random_state=0
        )
        steps = [("scale", ChannelStandardizer()), ("vocab", vocabulary), ("clf", net)]
        made[per_channel] = CertifiedPatchClassifier(steps).fit(X, y)
    return made


def batch(X, dtype=torch.float32):
    return torch.tensor(X, dtype=dtype).permute(0, 3, 1, 2)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("per_channel", CODES)
def test_float64_images(models, data, per_channel, gradient):
    X, _ = data
    model = models[per_channel]
    module = model.as_torch_module(gradient)
    images = batch(X, torch.float64).requires_grad_()
    logits = module(images)
    np.testing.assert_array_equal(logits.argmax(1).numpy(), model.predict(X))
    logits.sum().backward()
    assert images.grad.dtype == torch.float64
    assert torch.isfinite(images.grad).all()
    assert bool(images.grad.abs().sum() > 0) == (gradient != "none")
    single = batch(X).requires_grad_()
    module(single).sum().backward()
    torch.testing.assert_close(images.grad.float(), single.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int64])
def test_images_of_other_dtypes_are_their_values(models, data, dtype):
    module = models[False].as_torch_module()
    images = (batch(data[0]) * 3).to(dtype)
    torch.testing.assert_close(module(images), module(images.float()))


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("per_channel", CODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_autocast_takes_the_same_tokens(models, data, per_channel, gradient, dtype):
    module = models[per_channel].as_torch_module(gradient)
    seen = []
    module.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = batch(data[0], dtype).requires_grad_()
    plain = module(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(images)
        half.float().sum().backward()
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1)
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("per_channel", CODES)
def test_the_values_are_those_of_tokens_exactly(models, data, per_channel, gradient):
    model = models[per_channel]
    module, seen = model.as_torch_module(gradient), []
    module.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(batch(data[0], torch.float64).requires_grad_())
    made = model[:2].transform(data[0]).astype(np.float32)
    np.testing.assert_array_equal(seen[0].detach().permute(0, 2, 3, 1).numpy(), made)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("per_channel", CODES)
def test_an_empty_batch(models, data, per_channel, gradient):
    module = models[per_channel].as_torch_module(gradient)
    for dtype in (torch.float32, torch.float64):
        images = batch(data[0][:0], dtype).requires_grad_()
        logits = module(images)
        assert logits.shape == (0, 3)
        logits.sum().backward()
        assert images.grad.shape == images.shape


@pytest.mark.parametrize(
    "network", [PatchConvNet, PatchResNet, ImageResNet, AdditivePatchNet, WhiteningConvNet]
)
def test_an_empty_batch_through_every_network(digits, network):
    X, y = digits[0].reshape(-1, 8, 8)[:100], digits[1][:100]
    net = PatchNetClassifier(network, max_epochs=1, random_state=0)
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    module = model.as_torch_module()
    assert module(torch.zeros(0, 1, 8, 8)).shape == (0, 10)
    images = torch.tensor(X[:3], dtype=torch.float32)[:, None]
    one_by_one = torch.func.vmap(lambda image: module(image[None])[0])(images)
    torch.testing.assert_close(one_by_one, module(images), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # of jacfwd itself
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("per_channel", CODES)
def test_transforms_of_functions(models, data, per_channel, gradient):
    module = models[per_channel].as_torch_module(gradient)
    images = batch(data[0][:4])
    logits = module(images)

    def of_one(image):
        return module(image[None])[0]

    def loss(image):
        return of_one(image).square().sum()

    torch.testing.assert_close(torch.func.vmap(of_one)(images), logits, rtol=1e-4, atol=1e-5)
    wanted = torch.stack([torch.autograd.functional.jacobian(of_one, image) for image in images])
    for found in (
        torch.func.vmap(torch.func.jacrev(of_one))(images),
        torch.stack([torch.func.jacrev(of_one)(image) for image in images]),
        torch.func.vmap(torch.func.jacfwd(of_one))(images),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    whole = torch.func.jacrev(module)(images)
    assert whole.shape == (4, 3, *images.shape)
    torch.testing.assert_close(whole[range(4), :, range(4)], wanted, rtol=1e-3, atol=1e-5)
    slopes = torch.func.vmap(torch.func.grad(loss))(images)
    leaf = images.clone().requires_grad_()
    module(leaf).square().sum().backward()
    torch.testing.assert_close(slopes, leaf.grad, rtol=1e-3, atol=1e-5)
    assert bool(wanted.abs().sum() > 0) == (gradient != "none")
    pairs = torch.func.vmap(lambda two: module(two), in_dims=1)(images.reshape(2, 2, 3, 5, 7))
    torch.testing.assert_close(
        pairs, module(images).reshape(2, 2, 3).transpose(0, 1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["pipeline", "net"])
def test_nothing_done_to_the_module_reaches_the_model(models, data, kind):
    X, y = data
    model = copy.deepcopy(models[False]) if kind == "pipeline" else PatchNetClassifier(
        max_epochs=1, module__width=4, module__hidden=8, random_state=0).fit(X, y)  # fmt: skip
    net = model if kind == "net" else model["clf"]
    before = model.predict_proba(X)
    modes = [part.training for part in net.module_.modules()]
    module = as_torch_module(model)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    images = batch(X).requires_grad_()
    module(images).sum().backward()
    assert all(parameter.grad is None for parameter in module.parameters())
    single = module(images).detach()
    module.train()
    assert [part.training for part in net.module_.modules()] == modes
    module.eval()
    half = module.half()(images.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), single, rtol=0.05, atol=0.05)
    torch.nn.init.zeros_(next(iter(module.network.parameters())))
    np.testing.assert_array_equal(model.predict_proba(X), before)
    fresh = as_torch_module(model)
    wanted = fresh(images).detach()
    net.partial_fit(X if kind == "net" else model[:2].transform(X), y)
    torch.testing.assert_close(fresh(images).detach(), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float"])
def test_casts_leave_the_tokens_their_precision(models, data, cast):
    model = models[True]
    module, plain = model.as_torch_module(), model.as_torch_module()
    images = batch(data[0])
    getattr(module, cast)()
    seen = []
    module.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = module(images)
    weight = next(iter(module.network.parameters())).dtype
    assert seen[0].dtype == logits.dtype == weight
    wanted = plain.discretised(plain.scaled(images))
    torch.testing.assert_close(seen[0], wanted.to(weight), rtol=0, atol=0)
    torch.testing.assert_close(logits.float(), plain(images), rtol=0.1, atol=0.1)


WRAPPERS = [
    FrozenEstimator,
    lambda model: Pipeline([("model", model)]),
    lambda model: Pipeline([("first", None), ("model", FrozenEstimator(model))]),
    lambda model: Pipeline([("before", model[0]), ("rest", Pipeline(model.steps[1:]))]),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrappers(models, data, wrap):
    images = batch(data[0])
    wanted = as_torch_module(models[False])(images)
    torch.testing.assert_close(as_torch_module(wrap(models[False]))(images), wanted)


def test_a_search(models, data):
    X, y = data
    grid = {"clf__lr": [0.002]}
    search = GridSearchCV(models[False], grid, cv=2).fit(X, y)
    found = as_torch_module(FrozenEstimator(search))(batch(X)).argmax(1).numpy()
    np.testing.assert_array_equal(found, search.predict(X))


def test_a_network_that_cannot_be_copied_is_refused(data):
    X, y = data
    net = PatchNetClassifier(max_epochs=1, module__width=4, module__hidden=8, random_state=0).fit(
        X, y
    )
    net.module_.last_seen = 2 * next(iter(net.module_.parameters()))  # part of a graph
    with pytest.raises(TypeError, match="cannot be copied"):
        as_torch_module(net)


def test_rows_and_scalers(digits):
    X, y = digits[0], digits[1]
    net = PatchNetClassifier(max_epochs=1, module__width=4, random_state=0)
    model = Pipeline([("scale", StandardScaler()), ("clf", net)]).fit(X[:200], y[:200])
    images = torch.tensor(X[200:300]).reshape(-1, 1, 8, 8)
    found = as_torch_module(model)(images).argmax(1).numpy()
    np.testing.assert_array_equal(found, model.predict(X[200:300]))
