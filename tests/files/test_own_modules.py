"""Files of modules of one's own: weights by the file, architecture by the reader, nothing run."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ModelFileError,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    load,
    save,
)


class MyNet(nn.Module):
    def __init__(self, n_outputs, width=8, slope=0.1):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)
        self.last, self.slope = nn.Linear(width * 36, n_outputs), slope

    def forward(self, images):
        found = nn.functional.leaky_relu(self.norm(self.first(images)), self.slope)
        return self.last(found.flatten(1))


def my_factory(n_outputs):
    return MyNet(n_outputs, width=4)


def instance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MyNet(10)


MADE = instance()
MODULES = {
    "a class": (MyNet, {"module__width": 5}, "MyNet"),
    "a function": (my_factory, {}, "my_factory"),
    "an instance": (MADE, {}, "MyNet"),
}


def fitted(digits, module, options, kind=PatchNetClassifier, **more):
    X, y = digits[0][:200], digits[1][:200]
    net = kind(module, max_epochs=1, random_state=0, **options, **more)
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)


@pytest.mark.parametrize("name", MODULES)
def test_it_comes_back_bit_for_bit(digits, tmp_path, name):
    module, options, label = MODULES[name]
    model = fitted(digits, module, options)
    save(model, tmp_path / "file")
    with pytest.raises(ModelFileError, match=rf"modules=.*{label}"):
        load(tmp_path / "file")
    again = load(tmp_path / "file", modules={label: module, "Other": nn.Linear})
    some = digits[0][200:260]
    np.testing.assert_array_equal(again.predict_proba(some), model.predict_proba(some))
    np.testing.assert_array_equal(again.certify(some), model.certify(some))
    assert again.fit(some, digits[1][200:260]).predict(some).shape == (60,)


def around(name):
    """Classifiers that hold an instance twice, in the estimator that they clone and in the copy."""
    net = PatchNetClassifier(MADE, max_epochs=1, random_state=0)
    steps = [("vocab", PatchVocabulary(8, 4, strategy="kmeans", random_state=0)), ("clf", net)]
    if name == "smoothed":
        return SmoothedClassifier(CertifiedPatchClassifier(steps), n=5, random_state=0)
    inside = CertifiedPatchClassifier(steps) if name == "stickers on tokens" else net
    return StickerCertifiedClassifier(inside, 1, n_masks=2)


@pytest.mark.parametrize("name", ["smoothed", "stickers on tokens", "stickers on pixels"])
def test_instances_inside_classifiers_that_clone(digits, tmp_path, name):
    model = around(name).fit(digits[0][:90], digits[1][:90])
    save(model, tmp_path / "file")
    with pytest.raises(ModelFileError, match=r"modules=.*MyNet"):
        load(tmp_path / "file")
    again, some = load(tmp_path / "file", modules={"MyNet": MADE}), digits[0][200:210]
    np.testing.assert_array_equal(again.predict(some), model.predict(some))
    if name != "smoothed":
        found, expected = again.certify(some), model.certify(some)
        for key in ("prediction", "masks", "places", "n_predictions"):
            np.testing.assert_array_equal(found[key], expected[key])


@pytest.mark.parametrize("other", [MyNet(10), "slope"])
def test_modules_of_one_name_that_are_no_copies_are_refused(digits, tmp_path, other):
    if other == "slope":
        other = copy.deepcopy(MADE)
        other.slope = 0.9
    model = around("smoothed").fit(digits[0][:90], digits[1][:90])
    model.estimator.set_params(clf__module=other)
    with pytest.raises(TypeError, match="two different modules"):
        save(model, tmp_path / "file")


def test_ready_networks_new_heads_and_regressors(digits, tmp_path):
    ready = PatchNetClassifier.from_pretrained(MADE, image_shape=(8, 8), input_range=(0, 16))
    headed = PatchNetClassifier(MADE, head="replace", trainable="head", max_epochs=1)
    headed.fit(digits[0][:90], digits[1][:90] % 3)
    values = PatchNetRegressor(MyNet, max_epochs=1).fit(digits[0][:90], digits[1][:90])
    for model in (ready, headed, values):
        save(model, tmp_path / "file")
        again = load(tmp_path / "file", modules={"MyNet": model.module})
        some = digits[0][200:260]
        np.testing.assert_array_equal(again.predict(some), model.predict(some))


def test_the_module_of_the_reader_is_copied(digits, tmp_path):
    model = fitted(digits, MADE, {})
    before = {name: value.clone() for name, value in MADE.state_dict().items()}
    save(model, tmp_path / "file")
    load(tmp_path / "file", modules={"MyNet": MADE}).fit(digits[0][:50], digits[1][:50])
    assert all(bool((before[name] == value).all()) for name, value in MADE.state_dict().items())


OTHERS = {
    "of another size": MyNet(10, width=9),
    "of other parts": nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "of the same weights and other code": MyNet(10, slope=0.9),
    "no module": 3,
    "a function of no module": lambda **options: 3,
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_module_is_refused(digits, tmp_path, name):
    save(fitted(digits, MADE, {}), tmp_path / "file")
    with pytest.raises(ModelFileError):
        load(tmp_path / "file", modules={"MyNet": OTHERS[name]})


def test_modules_without_a_name_are_refused_by_save(digits, tmp_path):
    partial = functools.partial(MyNet, width=3)
    for module in (lambda n_outputs: MyNet(n_outputs), partial):
        with pytest.raises(TypeError, match="has no name"):
            save(fitted(digits, module, {}), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_common_offset_hides_no_other_module(digits, tmp_path):
    class Offset(MyNet):
        def forward(self, images):
            return super().forward(images) + 1e4

    save(fitted(digits, Offset(10), {}), tmp_path / "file")
    with pytest.raises(ModelFileError, match="something else"):
        load(tmp_path / "file", modules={"Offset": Offset(10, slope=0.9)})
