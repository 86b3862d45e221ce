"""Every public function that takes images takes tensors of torch for them."""

import numpy as np
import pytest
import torch
from image_inputs_for_tests import ASKS, FITS, HEIGHT, STREAMS, WIDTH, N, images, vocabulary


class Subclass(torch.Tensor):
    """As the images of torchvision."""


def tensor(X):
    return torch.from_numpy(X).as_subclass(Subclass)


def same(expected, found, name):
    kinds = np.ndarray | float | int | dict | tuple
    if isinstance(expected, dict):
        expected, found = (tuple(got[key] for key in expected) for got in (expected, found))
    if isinstance(expected, tuple):
        for one, other in zip(expected, found, strict=True):
            same(one, other, name)
    elif isinstance(expected, kinds):
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("name", sorted({*ASKS} - {"robustness_report"}))  # takes seconds
def test_tensors_are_images(name):
    X = images()
    same(ASKS[name](X), ASKS[name](tensor(X)), name)
    if name in STREAMS and "Display" not in name:
        half = np.array_split(X, 2)
        same(ASKS[name](iter(half)), ASKS[name](map(tensor, half)), name)


@pytest.mark.parametrize("name", FITS)
def test_tensors_train_what_arrays_train(name):
    expected, found = (FITS[name](X) for X in (images(), tensor(images())))
    if hasattr(expected, "input_dtype_"):
        assert found.input_dtype_ == expected.input_dtype_
    if hasattr(expected, "predict"):
        np.testing.assert_array_equal(found.predict(images()), expected.predict(images()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_of_any_kind_of_float_hold_what_they_hold(dtype):
    X = torch.rand(N, HEIGHT, WIDTH, 1, generator=torch.manual_seed(0)).to(dtype)
    wide = X.to(torch.promote_types(dtype, torch.float32)).numpy()
    model = vocabulary().fit(wide)
    np.testing.assert_array_equal(model.certify(X.requires_grad_()), model.certify(wide))
    np.testing.assert_array_equal(model.certify(list(X)), model.certify(wide))
