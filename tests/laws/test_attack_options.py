"""Every option of attacks, scorers and reports refuses bad values by its name."""

import re

import numpy as np
import pytest
import torch

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks import flips, gradients, perturbations
from sklearn_patchcert.attacks.robustness import run_attack, worst_case
from sklearn_patchcert.attacks.stickers.attack import run_sticker_attack
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.scorers.certified import sticker_attack_accuracy
from sklearn_patchcert.scorers.functions import (
    attack_accuracy,
    average_certified_radius,
    certified_accuracy,
    image_certificate,
    min_patch_certificate,
    neg_reconstruction_error,
    patch_certificate,
    smoothing_accuracy,
    smoothing_radius,
    sspgd_accuracy,
)
from sklearn_patchcert.scorers.reports import robustness_report

SMALL = {
    "max_epochs": 3,
    "batch_size": 16,
    "module__width": 4,
    "module__hidden": 16,
    "random_state": 0,
}
NAN, INF = float("nan"), float("inf")
COUNTS = [0, -1, 2.5, NAN, INF, None, "3", True, [3], np.float32(2)]
NUMBERS = [-1.0, NAN, None, "1", True, [1.0], np.array([1.0]), 1j]
BAD = {
    "eps": [*NUMBERS, INF],
    "norm": ["l1", "L3", "", 3, 0, -INF, NAN, None, True, ["l2"], np.array([2.0])],
    "steps": COUNTS,
    "restarts": COUNTS,
    "batch_size": COUNTS,
    "max_configurations": COUNTS,
    "n_samples": [one for one in COUNTS if one is not None],
    "step_size": [one for one in (*NUMBERS, INF) if one is not None],
    "temperature": [*NUMBERS, 0, INF],
    "radius": NUMBERS,
    "gradient": ["hard", "", None, 1, True],
    "bounds": [(0, 1), (16, 0), (3, 3), (0,), (0, 8, 16), 5, "ab", (NAN, 16), (0, INF),
               ("a", "b"), (False, True), [None, 16], (1, 17)],
    "start": ["x", "", None, 1, True],
    "loss": ["x", "", None, 1, True],
    "attack": ["fgsm", "", None, 3, ["pgd"]],
    "attack_list": ["noise", None, 3, {"noise": {}}, [], ["fgsm"], [("pgd", 3)], [3], [None],
                    ("pgd", {"steps": 3}), [("pgd", {}, {})], [("pgd", {"stepz": 3})]],
    "random_state": [-1, 2**40, 1.5, NAN, "0", True, [0]],
    "sigma": [-1.0, 0, NAN, "1", [1.0]],
    "n": [0, -1, 2.5, NAN, "3", None],
    "n0": [0, -1, 2.5, NAN, "3", None],
    "alpha": [0, 1, -0.1, 1.5, NAN, "x", None],
    "stepz": [3],
    "source": [3],
    "sticker_size": [0, -1, 2.5, "3", None, True, [], (1, 2, 3), (0, 2), [2, 0], {2: 2}],
    "places": ["all", "", None, 3, True, ["random"]],
    "n_stickers": [one for one in COUNTS if one is not None],
    "n_places": [one for one in COUNTS if one is not None],
    "certified_places": ["all", True, [], np.zeros((6, 8, 8)), np.zeros((6, 4, 4), bool),
                         np.zeros((5, 8, 8), bool), np.zeros(6, bool)],
    "method": ["pgd", "", None, 3, True, ["search"]],
    "n_trials": COUNTS,
    "n_views": COUNTS,
    "max_queries": [one for one in COUNTS if one is not None],
    "share": [*NUMBERS, 1, 1.5, INF],
    "after": ["fgsm", "flips", 3],
    "exact": ["yes", 3],
    "greedy": [one for one in COUNTS if one != 0 or isinstance(one, bool)],
    "y": [None, [0], [0] * 7, [[0, 1]] * 6, ["zero"] * 6, [99] * 6, [None] * 6, [0, "a"] * 3,
          [NAN] * 6],
    "X": [[], None, "image", [["a"] * 64] * 6, np.full((6, 64), NAN), np.zeros((6, 8, 8, 1, 1)),
          np.zeros((6, 64), complex), [[None] * 64] * 6],
}  # fmt: skip
RUN = {"eps", "norm", "gradient", "temperature", "bounds", "random_state", "batch_size", "stepz"}
ON_IMAGES = {"X", "y"}


@pytest.fixture(scope="module")
def plain(digits):
    net = PatchNetClassifier(**SMALL)
    net.fit(digits[0][:200], digits[1][:200])
    right = np.flatnonzero(net.predict(digits[0]) == digits[1])[:6]
    return net, digits[0][right], digits[1][right]


@pytest.fixture(scope="module")
def fitted(digits):
    X, y = digits[0][:200], digits[1][:200]
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(**SMALL)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    right = np.flatnonzero(model.predict(digits[0]) == digits[1])[:6]
    return model, digits[0][right], digits[1][right]


def attacker(name):
    """The attack function by itself, on a linear model."""

    def call(model, X, y, **options):
        batch, labels = torch.tensor(X, dtype=torch.float32)[:, None, None], torch.tensor(y)
        return getattr(gradients, name)(torch.nn.Flatten(), batch, labels, **options)

    return call


def pieces(model, X, y, norm="l2", loss="ce", eps=1.0, bounds=None):
    g = torch.ones(2, 1, 2, 2)
    perturbations.normalize(g, norm)
    perturbations.project(g, 1.0, norm)
    perturbations.random_start(g, 1.0, norm, None)
    perturbations.losses_of(torch.ones(2, 3), torch.tensor([0, 1]), loss)


def searched(model, X, y, **options):
    tokens, costs = torch.tensor([[[0.0], [1.0]]] * 2), np.array([[[0.0, 0.2], [0.9, 0.0]]])
    return flips.search(
        lambda made: torch.cat([-made.sum((1, 2))[:, None], made.sum((1, 2))[:, None]], 1),
        lambda made: made, np.array([[0, 1]]), costs, torch.tensor([0]), tokens=tokens, **options,
    )  # fmt: skip


def scored(scorer, **fixed):
    return lambda model, X, y, **options: scorer(model, X, y, **{**fixed, **options})


SUBSET, EPS = {"n_samples", "random_state"}, {"eps": 1.0}
CALLS = {  # name: (call, options that work, options that are tried)
    "run_attack, pgd": (run_attack, {"attack": "pgd", "steps": 2, **EPS},
                        RUN | {"steps", "restarts", "step_size", "start", "loss", "source", "y"}),
    "run_attack": (run_attack, EPS, {"attack", "eps", "norm", *ON_IMAGES}),
    "run_attack, apgd-ce": (run_attack, {"attack": "apgd-ce", "steps": 2, **EPS},
                            {"steps", "restarts", "stepz"}),
    "run_attack, sspgd": (run_attack, {"attack": "sspgd", **EPS}, {"restarts", "stepz", "eps"}),
    "run_attack, square": (run_attack, {"attack": "square", "steps": 2, **EPS}, RUN | {"steps"}),
    "run_attack, noise": (run_attack, {"attack": "noise", "steps": 2, **EPS}, RUN | {"steps"}),
    "run_attack, flips": (run_attack, {"attack": "flips", "steps": 2, "greedy": 2, **EPS},
                          {"eps", "norm", "bounds", "batch_size", "stepz", "after", "exact",
                           "greedy", "random_state"}),
    "run_sticker_attack": (run_sticker_attack, {"sticker_size": 2, "steps": 1, "n_places": 1},
                           {"sticker_size", "n_stickers", "places", "n_places",
                            "certified_places", "method", "steps", "restarts", "n_trials",
                            "n_views", "max_queries", "share", "gradient", "temperature",
                            "bounds", "source",
                            "random_state", "batch_size", "stepz", *ON_IMAGES}),
    "sticker_attack_accuracy": (sticker_attack_accuracy,
                                {"sticker_size": 2, "steps": 1, "n_places": 1},
                                SUBSET | {"sticker_size", "steps", "stepz", *ON_IMAGES}),
    "worst_case": (worst_case, {"attack_list": ["noise", "pgd"], "steps": 2, **EPS},
                   RUN | {"steps", "restarts", "loss", "attack_list", *ON_IMAGES}),
    "attack_accuracy": (attack_accuracy, {"attack_list": ["noise", "pgd"], "steps": 2, **EPS},
                        RUN | SUBSET | {"steps", "loss", "attack_list", *ON_IMAGES}),
    "sspgd_accuracy": (sspgd_accuracy, EPS, RUN | SUBSET | {"start", *ON_IMAGES}),
    "robustness_report": (robustness_report, {"steps": 1, "n": 5, "sigma": 1.0, "eps": 0.0},
                          {"eps", "norm", "bounds", "temperature", "steps", "sigma", "n",
                           "random_state", *ON_IMAGES}),
    "patch_certificate": (patch_certificate, {}, SUBSET | {"X"}),
    "image_certificate": (image_certificate, {}, SUBSET | {"X"}),
    "min_patch_certificate": (min_patch_certificate, {}, SUBSET | {"X"}),
    "neg_reconstruction_error": (neg_reconstruction_error, {}, SUBSET | {"X"}),
    "smoothing_accuracy": (smoothing_accuracy, {"sigma": 1.0, "n": 5},
                           SUBSET | {"sigma", "n", "alpha", *ON_IMAGES}),
    "smoothing_radius": (smoothing_radius, {"sigma": 1.0, "n": 5, "n0": 5},
                         SUBSET | {"sigma", "n", "n0", "alpha", *ON_IMAGES}),
    "certified_accuracy": (certified_accuracy, {"radius": 0.1, "max_configurations": 3},
                           SUBSET | {"radius", "max_configurations", *ON_IMAGES}),
    "average_certified_radius": (average_certified_radius, {"max_configurations": 3},
                                 SUBSET | {"max_configurations", *ON_IMAGES}),
    "as_torch_module": (lambda model, X, y, **options: as_torch_module(model, **options), {},
                        {"gradient", "temperature"}),
    "attacks.pgd": (attacker("pgd"), {"steps": 2, **EPS},
                    {"eps", "norm", "steps", "restarts", "step_size", "start", "loss", "bounds"}),
    "attacks.sspgd": (attacker("sspgd"), EPS, {"eps", "norm", "start", "loss", "bounds"}),
    "attacks.apgd": (attacker("apgd"), {"steps": 2, **EPS},
                     {"eps", "norm", "steps", "restarts", "loss", "bounds"}),
    "attacks.square": (attacker("square"), {"steps": 2, **EPS}, {"eps", "norm", "steps", "bounds"}),
    "attacks.noise": (attacker("noise"), {"steps": 2, **EPS}, {"eps", "norm", "steps", "bounds"}),
    "perturbations": (pieces, {}, {"norm", "loss"}),
    "flips.search": (searched, EPS, {"eps", "greedy"}),
}  # fmt: skip
TABLE = [(name, option) for name, (_, _, options) in CALLS.items() for option in sorted(options)]
ALSO = {"attack_list": "attack", "source": "source|classes_", "X": "X|Images|Input"}


def called(fitted, name, **options):
    model, X, y = fitted
    call, good, _ = CALLS[name]
    X, y = options.pop("X", X), options.pop("y", y)
    return call(model, X, y, **{**good, **options})


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"robustness_report"}))  # tested elsewhere
def test_good_options_work(fitted, name):
    called(fitted, name)


@pytest.mark.parametrize(("name", "option"), TABLE)
def test_bad_values_are_refused_by_name(fitted, name, option):
    words = ALSO.get(option, rf"\b{option}\b")
    by_default = (name, option) == ("attack_accuracy", "attack_list")
    for bad in BAD[option]:
        if by_default and bad is None:
            continue  # the default
        with pytest.raises((ValueError, TypeError)) as caught:
            called(fitted, name, **{option: bad})
        assert re.search(words, str(caught.value)), (bad, str(caught.value))


@pytest.mark.parametrize(
    ("scorer", "known"),
    [(patch_certificate, ("l2", "linf", "l1")), (image_certificate, ("l2", "linf", "l1")),
     (min_patch_certificate, ("l2", "linf", "l1")),
     (average_certified_radius, ("l2", "linf", "l0", "sticker"))],
)  # fmt: skip
def test_norms_of_certificates(fitted, scorer, known):
    model, X, y = fitted
    X, y = X[:2], y[:2]
    options = {"max_configurations": 3} if scorer is average_certified_radius else {}
    found = {norm: scorer(model, X, y, norm=norm, **options) for norm in known}
    assert np.isfinite(list(found.values())).all()
    for norm in ("l3", "", None, 3, True, ["l2"], "l0" if "l1" in known else "l1"):
        with pytest.raises(ValueError, match="norm"):
            scorer(model, X, y, norm=norm, **options)
    for ours, theirs in (("l2", ("L2", 2, "l_2")), ("linf", ("Linf", np.inf, "inf", "L_inf"))):
        for spelled in theirs:
            assert scorer(model, X, y, norm=spelled, **options) == found[ours]
    assert found["l2"] != found["linf"]


@pytest.mark.parametrize(
    "name", ["run_attack, pgd", "worst_case", "attacks.square", "sspgd_accuracy"]
)
def test_norms_of_attacks_in_other_spellings(plain, name):
    def answer(norm):
        options = {} if name == "attacks.square" else {"random_state": 0}
        if name == "attacks.square":
            options["generator"] = torch.Generator().manual_seed(0)
        found = called(plain, name, norm=norm, eps=3.0, **options)
        return np.asarray(found["norms"] if isinstance(found, dict) else found)

    for ours, theirs in (
        ("l2", ("L2", 2, 2.0, np.float32(2), " l_2", "2")),
        ("linf", ("Linf", "LINF", "L_inf", "l_inf", "inf", np.inf, np.float64(np.inf))),
    ):
        wanted = answer(ours)
        for norm in theirs:
            np.testing.assert_array_equal(answer(norm), wanted)
    if name != "sspgd_accuracy":
        assert not np.array_equal(answer("l2"), answer("linf"))


def test_an_empty_ball_holds_nothing(fitted):
    for name in ("run_attack, pgd", "run_attack, square", "run_attack, noise", "run_attack, flips"):
        found = called(fitted, name, eps=0)
        assert not found.success.any()
        assert found.correct.all()
        assert not found.norms.any()
    assert called(fitted, "attack_accuracy", eps=0.0) == 1.0


SEEDS = [0, 7, np.int64(7), np.uint8(7), None, np.random.RandomState(3)]


@pytest.mark.parametrize("seed", SEEDS, ids=str)
@pytest.mark.parametrize("name", ["run_attack, pgd", "worst_case", "attack_accuracy",
                                  "smoothing_accuracy", "patch_certificate"])  # fmt: skip
def test_seeds_of_every_kind(fitted, name, seed):
    before = np.random.get_state()[1].copy()
    called(fitted, name, random_state=seed)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_seeds_decide(fitted):
    def norms(seed):
        return called(fitted, "run_attack, pgd", random_state=seed, eps=5.0).norms.tolist()

    assert norms(7) == norms(np.int64(7)) == norms(7)
    assert norms(7) != norms(8)
    one, other = np.random.RandomState(0), np.random.RandomState(0)
    first = norms(one)
    assert first == norms(other)
    assert norms(one) != first  # goes on


def test_numbers_of_numpy_are_numbers(fitted):
    whole = {"steps": np.int64(2), "batch_size": np.uint8(4), "eps": np.float32(1)}
    found = called(fitted, "run_attack, pgd", **whole, bounds=np.array([0, 16]))
    wanted = called(fitted, "run_attack, pgd", bounds=(0.0, 16.0), batch_size=4)
    np.testing.assert_array_equal(found.adversarial, wanted.adversarial)


def test_options_for_all_reach_those_that_take_them(fitted):
    model, X, y = fitted
    both = worst_case(model, X, y, ["noise", "pgd"], eps=3.0, steps=2, restarts=2)
    apart = worst_case(
        model, X, y, [("noise", {"steps": 2}), ("pgd", {"steps": 2, "restarts": 2})], eps=3.0
    )
    for one, other in zip(both.success.values(), apart.success.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError, match=r"option greedy"):
        worst_case(model, X, y, ["noise", "pgd"], eps=3.0, greedy=2)
    with pytest.raises(TypeError, match="loss"):  # it is in the name of the attack
        run_attack(model, X, y, "apgd-ce", eps=1.0, loss="dlr")
    with pytest.raises(TypeError, match="loss"):
        worst_case(model, X, y, ["apgd-ce", "apgd-dlr"], eps=1.0, loss="margin")
    with pytest.raises((TypeError, ValueError), match="norm"):
        worst_case(model, X, y, [("pgd", {"norm": "linf"})], eps=1.0)
