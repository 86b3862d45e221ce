"""The network of benchmarks/lipschitz.py never moves two images further apart than they are."""

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("lipschitz")


@pytest.fixture
def network(script):
    """After some steps of training, so that norms are no longer those of the start."""
    torch.manual_seed(0)
    net = script.LipschitzNet((8, 8, 1), 10, (0.5,), width=8, depth=2, levels=2)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    loss, images = script.MarginLoss(0.3, 0.1), torch.rand(50, 1, 8, 8)
    labels = (10 * images.mean((1, 2, 3)) - 3).long().clamp(0, 9)
    for _ in range(20):
        optimizer.zero_grad()
        loss(net(images), labels).backward()
        optimizer.step()
    return net.eval().double()


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (8, 4), (3, 7)])
def test_matrices_are_below_norm_one(script, inputs, outputs):
    torch.manual_seed(inputs)
    layer = script.Orthogonal(inputs, outputs)
    layer.weight.data.normal_()
    layer.eval()
    sizes = torch.linalg.svdvals(layer.fixed)
    assert layer.fixed.dtype == torch.float64
    assert sizes.max() <= 1
    assert sizes.min() > 1 - 1e-6  # and keep the norm
    x = torch.randn(5, inputs, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.train().double()(x), rtol=1e-6, atol=1e-6)


def test_layers_keep_the_norm_inside_the_image(script):
    """What leaves the image is lost, all else is only moved, mixed and folded."""
    torch.manual_seed(0)
    layer = script.Layer(8, 6).eval().double()
    x = torch.zeros(3, 6, 6, 8, dtype=torch.float64)
    x[:, 1:-1, 1:-1] = torch.randn(3, 4, 4, 8)
    found, before = layer(x).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1)
    torch.testing.assert_close(found, before, rtol=1e-6, atol=0)
    assert not torch.equal(layer(x), x)
    moved = torch.zeros(1, 6, 6, 8, dtype=torch.float64)
    moved[0, 0, 0] = 1  # a corner loses the channels that move left and up
    assert layer(moved).square().sum().item() == pytest.approx(6, rel=1e-6)


def test_slopes_of_absolute_values(script):
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(script.HalfAbsolute.apply, x)


def test_no_two_images_come_further_apart(network):
    torch.manual_seed(1)
    images = torch.rand(40, 1, 8, 8, dtype=torch.float64)
    others = (images + 0.1 * torch.randn_like(images)).requires_grad_()
    for _ in range(100):  # to the largest ratio that gradients find
        apart = (network.embed(others) - network.embed(images)).norm(dim=1)
        found = apart / (others - images).flatten(1).norm(dim=1)
        (slope,) = torch.autograd.grad(found.sum(), others)
        with torch.no_grad():
            others += 0.1 * functional.normalize(slope.flatten(1)).reshape_as(others)
    assert found.max() <= 1
    assert found.min() > 0.5  # what is proved is nearly reached


def test_no_image_within_its_radius_changes_class(script, network):
    torch.manual_seed(2)
    images = torch.rand(60, 1, 8, 8, dtype=torch.float64)
    net = type("Net", (), {"module_": network, "classes_": np.arange(10)})
    found, radii = script.margins(net, network.embed(images).detach().numpy())
    np.testing.assert_array_equal(found, network(images).argmax(1))
    assert (radii > 0).all()
    labels, radii = torch.as_tensor(found), torch.as_tensor(radii)[:, None]
    moved = images.clone().requires_grad_()
    for _ in range(50):
        (slope,) = torch.autograd.grad(functional.cross_entropy(network(moved), labels), moved)
        with torch.no_grad():
            step = radii / 5 * functional.normalize(slope.flatten(1))
            change = (moved - images).flatten(1) + step
            change *= (0.999999 * radii / change.norm(dim=1, keepdim=True)).clamp(max=1)
            moved.copy_(images + change.reshape_as(images))
        assert (network(moved).argmax(1) == labels).all()


@pytest.fixture
def fitted(script):
    """As the benchmark fits it, but tiny."""
    images = np.random.default_rng(0).random((60, 8, 8, 3)).astype(np.float32)
    net = script.network("cifar10", 2)
    net.set_params(module__width=16, module__depth=1, module__levels=2, batch_size=30)
    return net.fit(images, np.arange(60) % 3), images


def in_float64(script, net, images):
    """Embeddings of a network that was never trained or fixed in float32."""
    module = script.LipschitzNet((8, 8, 3), 3, np.zeros(3), width=16, depth=1, levels=2).double()
    module.load_state_dict(net.module_.state_dict())
    for part in module.modules():
        if isinstance(part, script.Orthogonal):
            part.fix()
    return module.eval().embed(torch.as_tensor(images).movedim(3, 1).double()).detach().numpy()


def test_embeddings_are_those_of_the_network_in_float64(script, fitted):
    net, images = fitted
    for _ in range(2):
        found = script.embedded(net, images)
        expected = in_float64(script, net, images)
        np.testing.assert_allclose(found[:, 0, :, 0], expected, rtol=0, atol=1e-13)
        rounded = net.module_.eval().embed(torch.as_tensor(images).movedim(3, 1))
        assert np.abs(rounded.detach().numpy() - expected).max() > 1e-10  # which float32 is not
        np.testing.assert_array_equal(net.predict(images), script.margins(net, found)[0])
        np.testing.assert_array_equal(
            script.embedded(pickle.loads(pickle.dumps(net)), images), found
        )
        net.module_.float()  # rounds what was fixed
        np.testing.assert_array_equal(script.embedded(net, images), found)
        net.partial_fit(images, np.arange(60) % 3)
        assert not np.array_equal(script.embedded(net, images), found)


def test_radii_are_those_of_the_nearest_wall(script, fitted):
    net, images = fitted
    flat = script.embedded(net, images)[:, 0, :, 0]
    labels, radii = script.margins(net, flat)
    head = net.module_.directions().detach().numpy()
    for z, y, radius in zip(flat, labels, radii, strict=True):
        outcomes = []
        for part in (1 - 1e-6, 1 + 1e-6):  # straight to each other class
            others = [j for j in range(3) if j != y]
            ways = [
                (head[:, j] - head[:, y]) / np.linalg.norm(head[:, j] - head[:, y]) for j in others
            ]
            moved = np.array([z + part * radius * way for way in ways])
            outcomes.append((script.margins(net, moved)[0] == y).all())
        assert outcomes == [True, False]


def test_each_stage_keeps_the_norm(script):
    torch.manual_seed(0)
    module = script.LipschitzNet((8, 8, 1), 3, (0.0,), width=8, depth=0, levels=2).eval().double()
    halve = module.layers[0]
    x = torch.randn(5, 4, 4, 8, dtype=torch.float64)
    sizes = torch.linalg.svdvals(torch.stack([halve(e[None]).flatten() for e in basis(4, 4, 8)]))
    assert sizes.max() <= 1
    assert sizes.max() > 1 - 1e-6
    assert halve(x).shape == (5, 2, 2, 16)
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    module.layers = torch.nn.Identity()
    module.bias = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    norms, expected = module.embed(images).norm(dim=1), images.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, expected, rtol=1e-6, atol=0)


def basis(*shape):
    return torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
