"""The network of benchmarks/lipschitz.py never moves two images further apart than they are."""

import importlib
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


def test_embeddings_are_the_same_again(script, network):
    net = type("Net", (), {"module_": network.float()})
    kept = [part.fixed for part in network.modules() if isinstance(part, script.Orthogonal)]
    for matrix in kept:
        matrix.data = matrix.double() * (1 - 1e-12)  # what float32 does not hold
    images = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    once = script.embedded(net, images)
    np.testing.assert_array_equal(script.embedded(net, images), once)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(matrix.dtype == torch.float64 for matrix in kept)
