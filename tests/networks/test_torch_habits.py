"""What people do who come from torch: in-place layers, tuples, weights that are loaded later."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn import functional

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    StickerCertifiedClassifier,
    TorchFeatures,
    load,
    save,
    write_report,
)
from sklearn_patchcert.attacks import run_attack
from sklearn_patchcert.networks import AdditivePatchNet

N = 40
X = np.random.default_rng(0).random((N, 8, 8, 1)).astype(np.float32)
Y = np.arange(N) % 3


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def plain(n_outputs=3):
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, n_outputs)))


def ready(module, **options):
    return PatchNetClassifier.from_pretrained(module, image_shape=(8, 8), **options)


def behind_tokens(last, n_tokens=16):
    tokens = PatchVocabulary(n_tokens, 2, strategy="kmeans", max_iter=2, random_state=0)
    return CertifiedPatchClassifier([("vocab", tokens), ("clf", last)])


class InPlace(nn.Module):
    """Works on its input, and its layers on each other's outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.fold = nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)
        self.norm, self.last = nn.BatchNorm2d(2), nn.Linear(72, 3)

    def forward(self, images):
        images.sub_(0.5)
        x = self.norm(self.fold(self.first(images)))
        x += 1
        return self.last(x.flatten(1)).mul_(2)


@pytest.mark.parametrize("layer", ["first", "fold", "norm", "last", None])
def test_features_are_what_the_layer_returned(layer):
    module = seeded(InPlace).eval()
    seen = []
    part = module if layer is None else module.get_submodule(layer)
    hook = part.register_forward_hook(lambda part, given, made: seen.append(made.clone()))
    with torch.no_grad():
        module(torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
    hook.remove()
    before = X.copy()
    features = TorchFeatures(module, layer=layer).fit(X)
    for _ in range(2):
        np.testing.assert_allclose(features.transform(X), seen[0].flatten(1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(X, before)


def test_terms_leave_the_images_as_they_are():
    class InPlaceTerms(AdditivePatchNet):
        def terms(self, images):
            return super().terms(images.sub_(0.5))

    net = PatchNetClassifier(InPlaceTerms, module__patch_size=2, max_epochs=1, random_state=0)
    net.fit(X, Y)
    before = X.copy()
    np.testing.assert_array_equal(net.terms(X), net.terms(X))
    np.testing.assert_array_equal(X, before)


def from_a_file(net, tmp_path):
    torch.save(plain_of_another_seed().state_dict(), tmp_path / "weights.pt")
    net.load_params(f_params=tmp_path / "weights.pt")


def plain_of_another_seed():
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 1)


LATER = {
    "a file": from_a_file,
    "a state": lambda net, _: net.module_.load_state_dict(plain_of_another_seed().state_dict()),
    "training": lambda net, _: net.set_params(trainable="all", max_epochs=1, random_state=0)
    .partial_fit(X, Y).set_params(trainable="none"),
}  # fmt: skip


@pytest.mark.parametrize("way", LATER)
def test_weights_that_came_later_are_not_lost_without_a_word(way, tmp_path):
    net = ready(plain())
    before = net.predict_proba(X)
    LATER[way](net, tmp_path)
    there = net.predict_proba(X)
    assert not np.allclose(there, before)
    with pytest.raises(ValueError, match=r"would lose the weights.*FrozenEstimator\(net\)"):
        behind_tokens(net).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), there)
    for kept in (FrozenEstimator(net), ready(net.module_)):
        model = behind_tokens(kept).fit(X, Y)
        seen = model["vocab"].transform(X)
        np.testing.assert_array_equal(model.predict_proba(X), net.predict_proba(seen))


def test_fits_that_lose_nothing_pass():
    net = ready(plain())
    model = behind_tokens(net).fit(X, Y)
    first = model.predict_proba(X)
    np.testing.assert_array_equal(model.fit(X, Y).predict_proba(X), first)
    net.set_params(module=plain_of_another_seed())
    assert not np.array_equal(model.fit(X, Y).predict_proba(X), first)
    net.set_params(module=plain())
    np.testing.assert_array_equal(clone(model).fit(X, Y).predict_proba(X), first)


def test_a_module_that_is_not_trained_keeps_its_range():
    wide = 255 * X
    for start in (ready(plain()), PatchNetClassifier(plain(), trainable="none").fit(X, Y)):
        expected = start.input_range_
        with pytest.warns(UserWarning, match="fitted on values from 0"):
            model = behind_tokens(start).fit(wide, Y)
        assert start.input_range_ == expected
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(X, Y)
    trained = ready(plain(), trainable="all", max_epochs=1).fit(wide, Y)
    assert trained.input_range_[1] > 200


def test_a_state_of_another_model_is_refused():
    one, other = (behind_tokens(ready(plain()), n).fit(X, Y) for n in (16, 8))
    same = behind_tokens(ready(plain_of_another_seed()), 16).fit(X, Y)
    images = torch.from_numpy(X.transpose(0, 3, 1, 2))
    for model in (other, behind_tokens(ready(plain()), 16).fit(X[::-1] ** 2, Y)):
        with pytest.raises(RuntimeError, match="belongs to another model"):
            one.as_torch_module().load_state_dict(model.as_torch_module().state_dict())
    module = one.as_torch_module()
    module.load_state_dict(same.as_torch_module().state_dict())
    assert torch.equal(same.as_torch_module()(images), module(images))


class Blind(nn.Module):
    """Its outputs do not change with small changes of its input, or have no gradient at all."""

    def __init__(self, step):
        super().__init__()
        self.inside, self.step = plain(), step

    def forward(self, images):
        return self.inside(self.step(images))


def rounded(images):
    return torch.round(255 * images) / 255


SEEN = [(attack, tokens) for attack in ("pgd", "apgd-ce", "sspgd") for tokens in (True, False)]


@pytest.mark.parametrize(("attack", "tokens"), [*SEEN, ("flips", True)])
def test_attacks_that_see_no_slope_say_so(attack, tokens):
    net = ready(Blind(rounded))
    model = behind_tokens(net).fit(X, Y) if tokens else net
    with pytest.warns(UserWarning, match="gradient of the loss is zero at all images"):
        run_attack(model, X[:4], model.predict(X[:4]), attack, eps=0.5, random_state=0)


@pytest.mark.parametrize("step", [torch.detach, lambda x: (255 * x).to(torch.uint8).float()])
def test_attacks_that_find_no_gradient_say_so(step):
    net = ready(Blind(step))
    labels = net.predict(X[:4])
    with pytest.raises(TypeError, match=r'have no gradient.*attack="square"'):
        run_attack(net, X[:4], labels, "pgd", eps=0.5)
    run_attack(net, X[:4], labels, "square", eps=0.5, steps=2, random_state=0)


class Function(nn.Module):
    """Its outputs are those of no layer, although one has as many."""

    def __init__(self, last):
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 3), last
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, images):
        hidden = self.hidden(images.flatten(1))
        return self.last(hidden) if self.last else functional.relu(hidden) @ self.weight


@pytest.mark.parametrize("options", [{"trainable": "head"}, {"head": "replace"}])
def test_a_hidden_layer_is_not_taken_for_the_last_one(options):
    net = PatchNetClassifier(seeded(lambda: Function(None)), max_epochs=1, **options)
    with pytest.raises(ValueError, match="last layer of the module cannot be told: 'hidden'"):
        net.fit(X, Y)


@pytest.mark.parametrize("last", [nn.LogSoftmax(1), nn.Hardtanh(), nn.BatchNorm1d(3)])
def test_what_keeps_the_order_may_follow_the_last_layer(last):
    module = seeded(lambda: Function(last))
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.copy_(torch.arange(1.0, 4.0))
    net = PatchNetClassifier(module, trainable="head", max_epochs=1, random_state=0).fit(X, Y)
    changed = {name for name, value in net.module_.named_parameters()
               if not torch.equal(value, module.get_parameter(name))}  # fmt: skip
    assert changed == {"hidden.weight", "hidden.bias"}


class Several(nn.Module):
    def __init__(self, more):
        super().__init__()
        self.inside, self.more = plain(), more

    def forward(self, images):
        outputs = self.inside(images)
        return outputs, self.more(outputs)


MORE = {
    "nothing": lambda outputs: None,
    "a loss": lambda outputs: outputs.square().mean(),
    "a mapping": lambda outputs: {"features": outputs},
    "features": lambda outputs: outputs,
}


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("micro_batch_size", [None, 16])
def test_what_else_a_module_returns_is_left_alone(more, micro_batch_size):
    options = {"max_epochs": 1, "random_state": 0, "micro_batch_size": micro_batch_size}
    net = PatchNetClassifier(Several(MORE[more]), **options).fit(X, Y)
    alone = PatchNetClassifier(plain(), **options).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), alone.predict_proba(X))
    model, other = (behind_tokens(FrozenEstimator(one)).fit(X, Y) for one in (net, alone))
    found, expected = (one.certify_prediction(X[:2], max_configurations=9).radius
                       for one in (model, other))  # fmt: skip
    np.testing.assert_array_equal(found, expected)
    found, expected = (StickerCertifiedClassifier(FrozenEstimator(one), 2, n_masks=2).fit(X, Y)
                       .certify(X[:5]).places for one in (model, other))  # fmt: skip
    np.testing.assert_array_equal(found, expected)


def test_a_compiled_module_is_saved_and_loaded(tmp_path):
    module = torch.compile(plain(), backend="eager")
    net = ready(module)
    save(net, tmp_path / "net.patchcert")
    for given in (plain_of_another_seed(), torch.compile(plain(), backend="eager")):
        kind = type(module).__name__
        again = load(tmp_path / "net.patchcert", modules={kind: given})
        np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("kind", ["gradient", "bfloat16"])
def test_tensors_of_every_kind_reach_everything(kind, tmp_path):
    exact = torch.from_numpy(X).bfloat16()
    array = exact.float().numpy()
    tensor = exact if kind == "bfloat16" else exact.float().requires_grad_()
    model = behind_tokens(ready(plain()))
    stickers = StickerCertifiedClassifier(model, 2, n_masks=2).fit(tensor, torch.from_numpy(Y))
    np.testing.assert_array_equal(stickers.certify(tensor).places, stickers.certify(array).places)
    for one in (stickers, stickers.estimator_):
        write_report(one, tensor[:6], torch.from_numpy(Y[:6]), tmp_path / "report.html")
    values = torch.linspace(0, 1, N).bfloat16()
    wanted = values.float().numpy()
    values = values if kind == "bfloat16" else values.float().requires_grad_()
    weights = torch.ones(N).cumsum(0).requires_grad_()
    fits = [PatchNetRegressor(max_epochs=1, random_state=0).fit(*given, sample_weight=weight)
            for *given, weight in ((tensor, values, weights),
                                   (array, wanted, weights.detach().numpy()))]  # fmt: skip
    np.testing.assert_array_equal(*(net.predict(array) for net in fits))


def test_words_for_other_numbers_and_for_pairs():
    with pytest.raises(ValueError, match=r"weights of torch.float64.*module\.float\(\)"):
        ready(plain().double())
    model = behind_tokens(ready(plain())).fit(X, Y)
    pairs = torch.utils.data.DataLoader([(x, y) for x, y in zip(X, Y, strict=True)], batch_size=8)
    with pytest.raises(ValueError, match=r"pair of arrays.*images and labels"):
        model.certify(iter(pairs))
