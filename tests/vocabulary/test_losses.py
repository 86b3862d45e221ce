"""Vocabulary losses: gradients, minima, formulas written out."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.vocabulary import losses
from sklearn_patchcert.vocabulary.losses import Batch
from sklearn_patchcert.voronoi import certificate, surrogates


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return values.requires_grad_()


PATCHES, TOKENS, IMAGES = draw(2, 3, 4), draw(5, 4, seed=1), draw(2, 2, 5, 6, seed=2)
OTHERS = draw(2, 2, 5, 6, seed=3)


def negentropy(patches, tokens):
    return losses.negentropy_loss(surrogates.squared_distances(patches, tokens))


def margin(patches, tokens):
    return losses.margin_loss(surrogates.squared_distances(patches, tokens), tokens)


def soft(patches, tokens):
    return surrogates.soft_assignment(surrogates.squared_distances(patches, tokens), 0.7)


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (losses.reconstruction_loss, (PATCHES, draw(2, 3, 4, seed=4))),
        (losses.structure_loss, (IMAGES, OTHERS)),
        (negentropy, (PATCHES, TOKENS)),
        (margin, (PATCHES, TOKENS)),
        (soft, (PATCHES, TOKENS)),
    ],
)
def test_gradients_are_finite_differences(loss, inputs):
    assert gradcheck(loss, inputs)


def test_structure_has_finite_gradients_on_flat_images():
    flat = torch.zeros(1, 1, 6, 6, requires_grad=True)
    losses.structure_loss(flat, torch.rand(1, 1, 6, 6)).backward()
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("loss", [losses.negentropy_loss, losses.margin_loss])
def test_finite_gradients_where_a_patch_is_a_token(loss):
    tokens = torch.eye(3, requires_grad=True)
    squares = surrogates.squared_distances(tokens.detach()[None], tokens)
    (loss(squares, tokens) if loss is losses.margin_loss else loss(squares)).backward()
    assert torch.isfinite(tokens.grad).all()


def test_structure_is_that_of_scipy():
    from scipy import ndimage

    images = IMAGES.detach().numpy()
    magnitude = np.stack(
        [
            [np.hypot(ndimage.sobel(c, 0), ndimage.sobel(c, 1))[1:-1, 1:-1] for c in image]
            for image in images
        ]
    )
    found = losses.structure_loss(IMAGES, torch.zeros_like(IMAGES), eps=0.0).item()
    np.testing.assert_allclose(found, np.square(magnitude).mean())
    assert losses.structure_loss(IMAGES, IMAGES).item() == 0
    assert losses.structure_loss(IMAGES + 3, IMAGES).item() == pytest.approx(0, abs=1e-20)


def test_negentropy_lies_between_its_bounds():
    same = torch.ones(1, 1, 7)
    assert losses.negentropy_loss(same).item() == pytest.approx(-np.log(7))
    far = torch.tensor([[[0.0, 1e8, 1e8]]])
    assert losses.negentropy_loss(far).item() == pytest.approx(0)


def test_the_margin_is_the_hinge_of_the_exact_radius_where_it_is_cold():
    squares = surrogates.squared_distances(PATCHES, TOKENS)
    x, v = PATCHES.detach().numpy(), TOKENS.detach().numpy()
    radii = certificate.certify(x, v)[1]
    for margin in (0.1, 1.0, 5.0):
        found = losses.margin_loss(squares, TOKENS, margin, temperature=1e-4).item()
        np.testing.assert_allclose(found, np.maximum(margin - radii, 0).mean(), atol=1e-3)
    assert losses.margin_loss(squares, TOKENS, 0.0).item() == 0
    assert losses.margin_loss(squares[..., :1], TOKENS[:1]).item() == 0


def test_soft_becomes_hard():
    squares = surrogates.squared_distances(PATCHES, TOKENS)
    weights = surrogates.soft_assignment(squares, 1e-5)
    ids = certificate.tokenize(PATCHES.detach().numpy(), TOKENS.detach().numpy())
    np.testing.assert_array_equal(weights.argmax(-1).numpy(), ids)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert weights.max(-1).values.min().item() == pytest.approx(1)
    even = surrogates.soft_assignment(squares, 1e6)
    torch.testing.assert_close(even, torch.full_like(even, 0.2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_batch_puts_its_patches_back_into_images(per_channel):
    images = np.random.default_rng(0).normal(size=(2, 7, 5, 3))
    patches = images_to_patches(images, (2, 3), per_channel=per_channel)
    n, *grid, dim = patches.shape
    flat = torch.tensor(patches.reshape(n, -1, dim))
    batch = Batch(flat, flat, TOKENS, flat, tuple(grid), (2, 3), (7, 5))
    np.testing.assert_array_equal(batch.images(flat).numpy(), images.transpose(0, 3, 1, 2))
