"""Our attacks and our smoothing beside those of foolbox, adv-lib and ART.

    python benchmarks/others.py [--images 300] [--epochs 3]

Shows, on the vocabularies of benchmarks/attacks.py with a network of half the width (MNIST test
images, standardised, L2 over a whole image, eps 4.0): projected gradient descent of 40 steps and
as many restarts in foolbox, in Auto-PGD form in adv-lib, and ours; then, image by image, the best
of foolbox's and adv-lib's L2 attacks, DDN, FMN, DeepFool and PGD, through the straight-through
gradient, against the best of ours; and for each discrete model the smallest norm with which
anybody's attack succeeds against the certified radius of that image.  Everything is judged by the
model itself, its norm measured in float64.  Smoothing: our radii against Cohen's formula, with
SciPy's exact interval, on the same counts, and against ART's on the same network, where only the
draws of the noise differ; and 100 images certified with 10,000 copies each, with what that costs.
Nothing is tuned.

Needs foolbox, adv-lib, adversarial-robustness-toolbox and statsmodels besides the package.
Result: benchmarks/results/others.json.
"""

import argparse
import sys
import time
from importlib.metadata import version
from types import ModuleType

import foolbox
import numpy as np
import torch
from attacks import EPS, MODELS, SIGMA
from common import save, stages
from scipy.stats import binomtest, norm
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.attacks import as_torch_module, run_attack
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.smoothing import lower_bound

SPAN = 20.0  # theirs take images in [0, 1]: -10 .. 10, so that bounds hinder nobody
STEPS = 40
ALPHA = 0.001
SOFT = {"gradient": "soft", "temperature": 1.0}
OURS = {
    "pgd": ("pgd", {"steps": STEPS}),
    "apgd-ce": ("apgd-ce", {"steps": 50}),
    "apgd-dlr": ("apgd-dlr", {"steps": 50}),
    "apgd-ce, soft": ("apgd-ce", {"steps": 50, **SOFT}),
    "flips": ("flips", {}),
    "flips after pgd": ("flips", {"after": "pgd"}),
}


def trained(images, vocabulary, epochs, **options):
    """A model of standardised images."""
    scaler = ChannelStandardizer().fit(images.X_train[:50_000])
    X = scaler.transform(images.X_train[:50_000]).astype(np.float32)
    model = PatchNetClassifier(module__width=16, max_epochs=epochs, random_state=0, **options)
    if vocabulary is not None:
        tokens = PatchVocabulary(patch_size=4, random_state=0, **vocabulary)
        model = CertifiedPatchClassifier([("vocab", tokens), ("clf", model)])
    return model.fit(X, images.y_train[:50_000])


def theirs(module):
    """Attacks of others by name: images, labels -> images, in standardised pixels."""
    sys.modules.setdefault("visdom", ModuleType("visdom"))  # adv-lib draws with it, if asked to
    from adv_lib.attacks import apgd, ddn, fmn

    wrapped = foolbox.PyTorchModel(module, bounds=(-SPAN / 2, SPAN / 2), device="cpu")

    def unit(pixels):
        return module(pixels * SPAN - SPAN / 2)

    def in_unit(attack, **options):
        def run(images, labels):
            made = attack(unit, images / SPAN + 0.5, labels, **options)
            return (made - 0.5) * SPAN

        return run

    def in_foolbox(attack):
        return lambda images, labels: attack(wrapped, images, labels, epsilons=EPS * (1 - 1e-6))[1]

    eps = EPS / SPAN * (1 - 1e-5)
    return {
        "foolbox PGD": in_foolbox(foolbox.attacks.L2PGD(steps=STEPS, rel_stepsize=2.5 / STEPS)),
        "foolbox DeepFool": in_foolbox(foolbox.attacks.L2DeepFoolAttack(steps=STEPS)),
        "foolbox DDN": in_foolbox(foolbox.attacks.DDNAttack(steps=100, init_epsilon=EPS)),
        "adv-lib Auto-PGD, cross-entropy": in_unit(
            apgd, eps=eps, norm=2, n_iter=50, loss_function="ce"
        ),
        "adv-lib Auto-PGD, DLR": in_unit(apgd, eps=eps, norm=2, n_iter=50, loss_function="dlr"),
        "adv-lib DDN": in_unit(ddn, steps=100, init_norm=eps, levels=None),
        "adv-lib FMN": in_unit(fmn, norm=2, steps=100, α_init=1 / SPAN),
    }


def judged(model, X, y, made):
    """Success and norms, by the model itself."""
    norms = np.linalg.norm((made.astype(float) - X).reshape(len(X), -1), axis=1)
    return (model.predict(made) != y) & (norms <= EPS), norms


def attacks_of_others(model, X, y, seed=0):
    """Name to success and norms."""
    module, found = as_torch_module(model, "bpda"), {}
    images, labels = torch.from_numpy(X)[:, None], torch.from_numpy(y.astype(np.int64))
    for name, attack in theirs(module).items():
        torch.manual_seed(seed)
        made = attack(images, labels).detach()[:, 0].numpy()
        found[name] = judged(model, X, y, made)
    return found


def our_attacks(model, X, y, *, discrete):
    """Name to success and norms."""
    found = {}
    for name, (attack, options) in OURS.items():
        if discrete or not ("soft" in name or "flips" in name):
            result = run_attack(model, X, y, attack, eps=EPS, **options)
            found[name] = result.success, result.norms
    return found


def equal_restarts(model, X, y, restarts=3):
    """Accuracy left by PGD of equal steps, after every restart, foolbox's and ours."""
    correct = model.predict(X) == y
    standing = {"foolbox": correct.copy(), "ours": correct.copy()}
    left = {name: [] for name in standing}
    attack = theirs(as_torch_module(model, "bpda"))["foolbox PGD"]
    images, labels = torch.from_numpy(X)[:, None], torch.from_numpy(y.astype(np.int64))
    for seed in range(restarts):
        torch.manual_seed(seed)
        made = attack(images, labels)[:, 0].numpy()
        standing["foolbox"] &= ~judged(model, X, y, made)[0]
        found = run_attack(model, X, y, "pgd", eps=EPS, steps=STEPS, random_state=seed)
        standing["ours"] &= ~found.success
        for name, still in standing.items():
            left[name].append(100 * float(still.mean()))
    return left


def compare(name, model, X, y):
    """Both sides' attacks on one model."""
    discrete = MODELS[name] is not None
    correct = model.predict(X) == y
    sides = {
        "ours": our_attacks(model, X, y, discrete=discrete),
        "theirs": attacks_of_others(model, X, y),
    }
    best, smallest, left = {}, np.full(len(X), np.inf), {}
    for side, found in sides.items():
        best[side] = np.zeros(len(X), dtype=bool)
        for attack, (success, norms) in found.items():
            left[attack] = 100 * float((correct & ~success).mean())
            best[side] |= success & correct
            smallest = np.minimum(smallest, np.where(success & correct, norms, np.inf))
    result = {
        "clean": 100 * float(correct.mean()),
        "left": left,
        "left_by_all": {side: 100 * float((correct & ~b).mean()) for side, b in best.items()},
        "theirs_only": int((best["theirs"] & ~best["ours"]).sum()),
        "ours_only": int((best["ours"] & ~best["theirs"]).sum()),
        "restarts": equal_restarts(model, X, y),
    }
    if discrete:
        patch = model.certify(X).reshape(len(X), -1).min(1)
        whole = model.certify_prediction(X[:100], max_configurations=2000).radius
        result["below_the_patch_radius"] = int((smallest < patch)[correct].sum())
        result["below_the_radius_of_the_prediction"] = int((smallest[:100] < whole).sum())
        result["median_smallest_norm"] = float(np.median(smallest[np.isfinite(smallest)]))
    return result


def smoothing(images, X, y, epochs, n=10_000, n_theirs=1000):
    """Ours, the formula, and ART's."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    model = trained(images, None, epochs, noise_std=SIGMA)
    smoothed = SmoothedClassifier(FrozenEstimator(model), SIGMA, n=n, alpha=ALPHA, random_state=0)
    smoothed.set_params(verbose=1).fit(X, y)
    start = time.perf_counter()
    classes, radii = smoothed.certify(X)
    seconds = time.perf_counter() - start
    counts = smoothed._counts(X, n, stage=1).max(1)

    def formula(k):
        low = binomtest(int(k), n).proportion_ci(1 - 2 * ALPHA, "exact").low
        return SIGMA * norm.ppf(low) if low > 0.5 else 0.0

    decided = classes >= 0
    expected = np.array([formula(k) for k in counts])
    few = SmoothedClassifier(FrozenEstimator(model), SIGMA, n=n_theirs, alpha=ALPHA, random_state=0)
    _, our_radii = few.fit(X, y).certify(X)
    art = PyTorchRandomizedSmoothing(
        as_torch_module(model), torch.nn.CrossEntropyLoss(), (1, 28, 28), 10,
        sample_size=100, scale=SIGMA, alpha=ALPHA,
    )  # fmt: skip
    np.random.seed(0)
    start = time.perf_counter()
    their_classes, their_radii = art.certify(X[:, None], n_theirs, batch_size=1000)
    their_seconds = time.perf_counter() - start
    # The radius grows with the count: back to counts, whose difference has a known spread.
    possible = lower_bound(np.arange(n_theirs + 1), n_theirs, ALPHA)
    both = (our_radii > 0) & (their_radii > 0)
    ours, others = (
        np.searchsorted(possible, norm.cdf(r[both] / SIGMA) - 1e-9)
        for r in (our_radii, their_radii)
    )
    share = (ours + others) / (2 * n_theirs)
    spread = np.sqrt(2 * n_theirs * share * (1 - share)).clip(1)
    return {
        "images": len(X),
        "copies": n,
        "accuracy": 100 * float((classes == y).mean()),
        "average_certified_radius": float(np.where(classes == y, radii, 0).mean()),
        "seconds_per_image": seconds / len(X),
        "furthest_from_the_formula": float(np.abs(radii - expected)[decided].max()),
        "art": {
            "copies": n_theirs,
            "same_class": int((their_classes == few.certify(X)[0]).sum()),
            "mean_radius": float(their_radii.mean()),
            "our_mean_radius": float(our_radii.mean()),
            "rms_difference_in_standard_errors": float(
                np.sqrt(np.mean(((ours - others) / spread) ** 2))
            ),
            "largest_difference_in_standard_errors": float(np.abs((ours - others) / spread).max()),
            "seconds_per_image": their_seconds / len(X),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    images = load_images("mnist")
    scaler = ChannelStandardizer().fit(images.X_train[:50_000])
    X = scaler.transform(images.X_test[: options.images]).astype(np.float32)
    y = images.y_test[: options.images]

    def run(name):
        if name == "smoothing":
            return smoothing(images, X[:100], y[:100], options.epochs)
        return compare(name, trained(images, MODELS[name], options.epochs), X, y)

    rows = {}
    work = [*((name,) for name in MODELS), ("smoothing",)]
    for (name,), found in stages("others", vars(options), work, run):
        rows[name] = found
        print(name, found, flush=True)
    packages = ("foolbox", "adv-lib", "adversarial-robustness-toolbox")
    save(
        "others",
        {
            "settings": vars(options),
            "eps": EPS,
            "sigma": SIGMA,
            "versions": {package: version(package) for package in packages},
            "smoothing": rows.pop("smoothing"),
            "models": rows,
        },
    )


if __name__ == "__main__":
    main()
