"""What the strongest attacks leave of a discrete model, and of the same network without tokens.

    python benchmarks/attacks.py [--images 1000] [--epochs 3]

Shows, on the first test images of MNIST (standardised; L2 over a whole image, eps 4.0 as on the
poster), the accuracy that every attack leaves of an undefended network, of 16 k-means tokens and of
256 denoised tokens with the same network: one step, 40 steps, Auto-PGD, random search, through the
straight-through and the soft gradient, and the search over tokens, which knows the defence.  For
all attacks together it counts successes below the certified radius: there must be none.
benchmarks/others.py runs the attacks of other libraries.  Nothing is tuned.

Result: benchmarks/results/attacks.json.
"""

import argparse
import time

import joblib
import numpy as np
from common import RESULTS, save, stages
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.attacks import reproject, run_attack
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.smoothing import certified_radius, lower_bound

EPS, SIGMA = 4.0, 2.0
MODELS = {
    "undefended": None,
    "16 k-means tokens": {"n_tokens": 16, "strategy": "kmeans"},
    "256 denoised tokens": {"n_tokens": 256, "strategy": "denoised"},
}
SOFT = {"gradient": "soft", "temperature": 1.0}
ATTACKS = {
    "noise, 20 draws": ("noise", {"steps": 20}),
    "Square, 300 queries": ("square", {"steps": 300}),
    "one step (SSPGD)": ("sspgd", {}),
    "one step, soft gradient": ("sspgd", SOFT),
    "PGD, 40 steps": ("pgd", {"steps": 40}),
    "PGD, 40 steps, soft gradient": ("pgd", {"steps": 40, **SOFT}),
    "Auto-PGD, cross-entropy": ("apgd-ce", {"steps": 50}),
    "Auto-PGD, DLR": ("apgd-dlr", {"steps": 50}),
    "Auto-PGD, cross-entropy, soft gradient": ("apgd-ce", {"steps": 50, **SOFT}),
    "transfer from the undefended network": ("apgd-ce", {"steps": 50}),
    "search over tokens": ("flips", {}),
}


def fitted(images, name, epochs):
    """A model, kept between runs."""
    path = RESULTS / f"attacks.{name.replace(' ', '_')}.{epochs}.partial.joblib"
    if path.exists():
        return joblib.load(path)
    scaler = ChannelStandardizer().fit(images.X_train[:50_000])
    X = scaler.transform(images.X_train[:50_000]).astype(np.float32)
    model = PatchNetClassifier(max_epochs=epochs, random_state=0, autocast="auto")
    if MODELS[name] is not None:
        vocabulary = PatchVocabulary(patch_size=4, random_state=0, **MODELS[name])
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", model)])
    joblib.dump(model.fit(X, images.y_train[:50_000]), path)
    return joblib.load(path)


def smoothing(model, X, y, n=1000):
    """Accuracy and average radius of smoothing, and what it costs next to bare predictions."""
    smoothed = SmoothedClassifier(FrozenEstimator(model), SIGMA, n=n, random_state=0).fit(X, y)
    start = time.perf_counter()
    classes, radii = smoothed.certify(X)
    seconds = time.perf_counter() - start
    copies = np.repeat(X[:1], 1000, axis=0)
    start = time.perf_counter()
    for _ in range(10):
        model.predict(copies)
    bare = (time.perf_counter() - start) / 10_000
    counts = smoothed._counts(X, n, stage=1)[
        np.arange(len(X)), smoothed._counts(X, 100, 0).argmax(1)
    ]
    again = certified_radius(lower_bound(counts, n, 0.001), SIGMA)
    np.testing.assert_array_equal(again, radii)
    return {
        "accuracy": 100 * float((classes == y).mean()),
        "average_certified_radius": float(np.where(classes == y, radii, 0).mean()),
        "images": len(X),
        "copies": n,
        "seconds_per_copy": seconds / len(X) / (n + 100),
        "seconds_per_bare_prediction": bare,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    images = load_images("mnist")
    scaler = ChannelStandardizer().fit(images.X_train[:50_000])
    X = scaler.transform(images.X_test[: options.images]).astype(np.float32)
    y = images.y_test[: options.images]

    def run(model_name, what):
        model = fitted(images, model_name, options.epochs)
        if what == "smoothing":
            return smoothing(model, X[:100], y[:100])
        correct = model.predict(X) == y
        if what == "clean":
            radii = np.zeros(len(X))
            if MODELS[model_name] is not None:
                radii = model.certify(X).reshape(len(X), -1).min(1)
            return {"correct": correct.tolist(), "radii": radii.tolist()}
        attack, extra = ATTACKS[what]
        if what.startswith("transfer"):
            extra = {**extra, "source": fitted(images, "undefended", options.epochs)}
        found = run_attack(model, X, y, attack, eps=EPS, **extra)
        result = {"success": found.success.tolist(), "norms": found.norms.tolist()}
        if MODELS[model_name] is not None and attack != "flips":
            smaller = reproject(model, X, found.adversarial)
            norms = np.linalg.norm((smaller.astype(float) - X).reshape(len(X), -1), axis=1)
            still = found.success & (model.predict(smaller) != y)
            if still.any():
                result["reprojected"] = float(np.mean(norms[still] / found.norms[still]))
        return result

    work = []
    for name, vocabulary in MODELS.items():
        wanted = [a for a in ATTACKS if vocabulary is not None or not (
            "soft" in a or "tokens" in a or "transfer" in a)]  # fmt: skip
        work += [(name, what) for what in ["clean", *wanted, "smoothing"]]
    rows = {}
    settings = vars(options)
    for (name, what), found in stages("attacks", settings, work, run):
        rows.setdefault(name, {})[what] = found
    result = {}
    for name, found in rows.items():
        correct, radii = (np.array(found["clean"][k]) for k in ("correct", "radii"))
        robust, smallest = correct.copy(), np.full(len(correct), np.inf)
        table = {"clean": 100 * float(correct.mean())}
        for what in ATTACKS:
            if what in found:
                success = np.array(found[what]["success"])
                table[what] = 100 * float((correct & ~success).mean())
                robust &= ~success
                norms = np.where(success, found[what]["norms"], np.inf)
                smallest = np.minimum(smallest, norms)
        table["worst case"] = 100 * float(robust.mean())
        fooled = np.isfinite(smallest)
        result[name] = {
            "accuracy": table,
            "successes_below_the_certified_radius": int((smallest < radii)[correct].sum()),
            "median_norm_of_success": float(np.median(smallest[fooled])),
            "reprojected_part_of_norm": {
                what: found[what]["reprojected"] for what in ATTACKS
                if "reprojected" in found.get(what, {})
            },
            "smoothing": found["smoothing"],
        }  # fmt: skip
        for what, accuracy in table.items():
            print(f"{name:22} {what:40} {accuracy:6.2f} %")
    save("attacks", {"settings": settings, "eps": EPS, "sigma": SIGMA, "models": result})


if __name__ == "__main__":
    main()
