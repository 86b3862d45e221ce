"""What each option of a learned vocabulary does to its tokens, one at a time and all together.

    python benchmarks/ablations.py [--seeds 3] [--images 8000]

Shows, on 4x4 patches of MNIST and CIFAR-10 (standardised, one channel at a time), for 64 tokens:
reconstruction error, perplexity of the tokens' use, Sobel error, mean patch radius (L2), all on
validation images, and the accuracy of a small network on the discrete images.  The baseline is the
same vocabulary without options, in the same run.  The poster that named these ablations does not
say where its tokens started: perplexity and the steps that it takes to come within 5 % of the
baseline's last error are also given for a start from random patches, without k-means.

Result: benchmarks/results/ablations.json (mean and spread over seeds).
"""

import argparse

import numpy as np
import torch
from common import save, spread, stages

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.scorers import neg_reconstruction_error, patch_certificate
from sklearn_patchcert.vocabulary import losses
from sklearn_patchcert.vocabulary.training import learn_tokens
from sklearn_patchcert.voronoi import surrogates

N_TOKENS = 64
OPTIONS = {
    "none": {},
    "soft discretisation": {"soft_temperature": (1.0, 0.05)},
    "entropy": {"entropy_weight": 0.3},
    "structure": {"structure_weight": 0.3},
    "noise": {"noise_std": 0.3},
    "margin": {"margin_weight": 3.0},
    "tokens by channel": {"per_channel": True},
    "joint tokens": {"per_channel": False},
}
OPTIONS["all of the poster's"] = {
    **OPTIONS["soft discretisation"],
    **OPTIONS["entropy"],
    **OPTIONS["structure"],
    **OPTIONS["noise"],
}


def from_random_patches(X, options, seed):
    """Perplexity and errors, step by step, of tokens that start as random patches."""
    patches = images_to_patches(X, (4, 4), per_channel=True)
    grid = patches.shape[1:4]
    patches = patches.reshape(len(X), -1, 16)
    errors = []

    def recorder(batch):
        with torch.no_grad():
            squares = surrogates.squared_distances(batch.patches, batch.tokens)
            errors.append(float(squares.amin(-1).mean()))
        return losses.reconstruction_loss(batch.reconstruction, batch.patches)

    rng = np.random.default_rng(seed)
    flat = patches.reshape(-1, 16)
    start = np.unique(flat[rng.choice(len(flat), 8 * N_TOKENS)], axis=0)
    start = start[rng.choice(len(start), N_TOKENS, replace=False)]
    generator = torch.Generator().manual_seed(seed)
    layout = grid, (4, 4), X.shape[1:3]
    tokens, _ = learn_tokens(
        patches, start, loss=recorder, layout=layout, generator=generator, max_iter=6, **options
    )
    ids = surrogates.nearest(torch.tensor(flat), torch.tensor(tokens)).numpy()
    shares = np.bincount(ids, minlength=N_TOKENS) / len(ids)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum())), errors


def measure(data, options, seed):
    """Figures of one vocabulary."""
    X, y, X_val, y_val = data
    options = {"per_channel": "shared", **options}
    vocabulary = PatchVocabulary(N_TOKENS, 4, random_state=seed, **options)
    net = PatchNetClassifier(max_epochs=2, random_state=seed, autocast="auto")
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    vocabulary = model["vocab"]
    ids = vocabulary.tokenize(X_val)
    if vocabulary.per_channel_ is not True:
        ids = ids[..., None]
    perplexity = []
    for c in range(ids.shape[-1] if vocabulary.per_channel_ is True else 1):
        part = ids[..., c] if vocabulary.per_channel_ is True else ids
        shares = np.bincount(part.ravel(), minlength=N_TOKENS) / part.size
        perplexity.append(np.exp(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()))
    made = [torch.tensor(x).permute(0, 3, 1, 2) for x in (vocabulary.transform(X_val), X_val)]
    parts = X_val[0].size / (ids[0].size * 16)  # a joint patch holds the values of all channels
    figures = {
        "error": -neg_reconstruction_error(vocabulary, X_val) / parts,
        "perplexity": np.mean(perplexity),
        "sobel_error": losses.structure_loss(*made),
        "mean_radius": patch_certificate(vocabulary, X_val),
        "accuracy": 100 * model.score(X_val, y_val),
    }
    if options["per_channel"] == "shared":
        learned = {name: value for name, value in options.items() if name != "per_channel"}
        figures["random_perplexity"], errors = from_random_patches(X, learned, seed)
        figures["errors"] = np.convolve(errors, np.ones(8) / 8, mode="valid").tolist()
    return {k: v if isinstance(v, list) else float(v) for k, v in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8000)
    options = parser.parse_args()
    data = {}

    def run(name, variant, seed):
        if name not in data:
            images = load_images(name)
            some = slice(options.images)
            scaler = ChannelStandardizer().fit(images.X_train[some])
            X = scaler.transform(images.X_train).astype(np.float32)
            X = X if X.ndim == 4 else X[..., None]
            held = slice(-2000, None)
            data[name] = X[some], images.y_train[some], X[held], images.y_train[held]
        return measure(data[name], OPTIONS[variant], seed)

    work = [
        (name, variant, seed)
        for name in ("mnist", "cifar10")
        for variant in OPTIONS
        for seed in range(options.seeds)
        if not (name == "mnist" and "tokens" in variant)
    ]
    found = {}
    for (name, variant, _), figures in stages("ablations", vars(options), work, run):
        found.setdefault(name, {}).setdefault(variant, []).append(figures)
    rows = {}
    for name, variants in found.items():
        goals = [1.05 * figures["errors"][-1] for figures in variants["none"]]
        for variant, seeds in variants.items():
            for figures, goal in zip(seeds, goals, strict=True):
                if "errors" in figures:
                    reached = np.array(figures.pop("errors")) <= goal
                    figures["steps"] = float(reached.argmax()) if reached.any() else float("inf")
            row = {key: spread([figures[key] for figures in seeds]) for key in seeds[0]}
            rows.setdefault(name, {})[variant] = row
            shown = "  ".join(f"{key} {value['mean']:.3f}" for key, value in row.items())
            print(f"{name:8} {variant:20} {shown}")
    save("ablations", {"settings": {**vars(options), "n_tokens": N_TOKENS}, "rows": rows})


if __name__ == "__main__":
    main()
