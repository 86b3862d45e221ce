"""Accuracy against radius: which vocabularies no other vocabulary beats in both.

    python benchmarks/pareto.py [--dataset mnist cifar10] [--images 20000] [--epochs 5]
                                [--groups 1x1 ...]

Shows, on MNIST and CIFAR-10, the accuracy of a network and the mean and summed radii of patches, L2
in standardised pixels, on validation images that neither saw: over the size of a patch, tokens of
a channel or of all of them, how tokens are shared out over channels, the strategies, the margin
loss, tokens that are tuned jointly with a network, and what a better network alone brings.  The
colours of CIFAR-10 are rotated into luminance and two differences, which keeps L2 norms, unless
said otherwise.  The baseline beside them is what the poster reports for its learned vocabularies.
One seed, and networks that are far from converged; the test set is not used.

Fronts are of the rows with the same network, against the mean radius and against the summed one (a
slack statistic, no radius).  Mean radii of patches of different sizes are not comparable; where
every patch has the same radius, smaller patches promise more, since all of them may move at once.
The network behind single pixels of MNIST looks at blocks of 4x4.

`--groups` measures some rows only and leaves the others as they are.

Result: benchmarks/results/pareto.json, which benchmarks/pictures.py draws.
"""

import argparse
import json
import time
from functools import partial

import configurations
import numpy as np
import torch
from common import RESULTS, environment, save, stages
from configurations import discrete, standardised
from scipy.fft import idct
from sklearn.frozen import FrozenEstimator
from torch.nn.functional import cross_entropy

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.model_selection import pareto_front
from sklearn_patchcert.networks import ImageResNet, PatchConvNet, random_crop
from sklearn_patchcert.voronoi import surrogates

POSTER = {  # mean radius, sum, accuracy
    name: (patch, total, accuracy)
    for name, rows in configurations.POSTER.items()
    for accuracy, patch, total, *_ in [rows["learned"]]
}
MARGIN = {"margin_weight": 10.0}
DENOISED = {"strategy": "denoised"}
CANDIDATES = {
    "mnist": [
        *(("4x4", {"n_tokens": n}) for n in (4, 8, 16, 32, 64)),
        *(("4x4, margin loss", {"n_tokens": n, **MARGIN}) for n in (8, 16, 32, 64)),
        *(("4x4, denoised", {"n_tokens": n, **DENOISED}) for n in (32, 128, 512, 1024)),
        *(("4x4, tuned with a network", {"n_tokens": n, "tuned": True}) for n in (4, 8, 16, 32)),
        *(("2x2", {"patch_size": 2, "n_tokens": n}) for n in (2, 4, 8, 32)),
        *(("7x7", {"patch_size": 7, "n_tokens": n}) for n in (32, 128, 512)),
        *(("7x7, denoised", {"patch_size": 7, "n_tokens": n, **DENOISED}) for n in (512, 4096)),
        *(("1x1", {"patch_size": 1, "n_tokens": n}) for n in (2, 3, 4, 8)),
    ],
    "cifar10": [
        *(("4x4", {"n_tokens": n}) for n in (8, 16, 64, (256, 3, 4), (2048, 3, 4), (2048, 32, 32))),
        *(("4x4, RGB", {"n_tokens": n, "colours": "rgb"}) for n in (16, 64)),
        ("4x4, RGB, shared tokens", {"n_tokens": 16, "colours": "rgb", "per_channel": "shared"}),
        *(("4x4, margin loss", {"n_tokens": n, **MARGIN}) for n in (16, 64)),
        *(("4x4, denoised", {"n_tokens": n, **DENOISED}) for n in (256, 4096)),
        *(("4x4, tuned with a network", {"n_tokens": n, "tuned": True}) for n in (16, 64)),
        *(("4x4, joint", {"n_tokens": n, "per_channel": False}) for n in (64, 512, 4096)),
        *(("2x2", {"patch_size": 2, "n_tokens": n}) for n in (4, 8, 32)),
        *(
            ("2x2, joint", {"patch_size": 2, "n_tokens": n, "per_channel": False})
            for n in (32, 256)
        ),
        *(("8x8", {"patch_size": 8, "n_tokens": n}) for n in (256, 4096)),
        ("4x4, PatchConvNet", {"n_tokens": 16, "module": PatchConvNet}),
        ("4x4, ImageResNet", {"n_tokens": 16, "module": ImageResNet}),
        *(("2x2", {"patch_size": 2, "n_tokens": n}) for n in ((8, 2, 2), (32, 2, 3))),
        *(
            ("1x1", {"patch_size": 1, "n_tokens": n})
            for n in ((2, 2, 2), (4, 2, 2), (8, 2, 2), (8, 4, 4), (16, 4, 4), (32, 8, 8))
        ),
    ],
}  # fmt: skip


def tuned_tokens(model, X, y, epochs=2, rate=0.002, batch_size=250, seed=0):
    """The tokens of a fitted pipeline, trained with its network for its task.

    Images are tokenised anew in each step; the gradient of the loss goes to the chosen tokens as to
    the entries of a table, and the patches hold them near (the commitment of VQ-VAE, van den Oord,
    Vinyals and Kavukcuoglu, 2017, arXiv:1711.00937).  The radius behind them stays exact.
    """
    vocabulary, network = model["vocab"], model["clf"].module_
    tokens = torch.tensor(vocabulary.vocabulary_, requires_grad=True)
    table = tokens if tokens.ndim == 3 else tokens[None]
    size = {"patch_size": vocabulary.patch_size_, "per_channel": bool(vocabulary.per_channel_)}
    optimizer = torch.optim.Adam([{"params": [tokens]}, {"params": network.parameters()}], lr=rate)
    images, labels = torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(y.astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(X), generator=generator).split(batch_size):
            patches = surrogates.cut(images[rows], **size)
            ids = [surrogates.nearest(patches[..., g, :], t) for g, t in enumerate(table)]
            chosen = torch.stack([t[i] for t, i in zip(table, ids, strict=True)], dim=3)
            made = surrogates.join(chosen, size["patch_size"], images.shape[2:])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = cross_entropy(network(made), labels[rows])
            loss = loss + (patches - chosen).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    return tokens.detach().numpy()


def figures(dataset, options, images, epochs):
    """Train a candidate on the first images and measure it on validation images."""
    start = time.perf_counter()
    candidate = dict(options)
    data = standardised(dataset)
    (X, y), (X_val, y_val) = data["train"], data["validation"]
    X, y = X[:images], y[:images]
    if candidate.pop("colours", None) == "rgb":
        X, X_val = (idct(part, axis=-1, norm="ortho") for part in (X, X_val))
    module, tuned = candidate.pop("module", None), candidate.pop("tuned", False)
    n_tokens, strategy = candidate.pop("n_tokens"), candidate.pop("strategy", "learned")
    candidate = {"patch_size": 4, "per_channel": dataset == "cifar10", **candidate}

    def network(seed, epochs):
        model = discrete(dataset, seed, n_tokens, strategy=strategy, max_epochs=epochs)
        if module is None and dataset == "cifar10":
            model["clf"].set_params(module__width=32)
        elif module is not None:
            rest = partial(random_crop, pixels=2, mirror=True)
            net = type(model["clf"])(
                module, max_epochs=epochs, batch_size=250, lr=0.004, autocast="auto", augment=rest,
                criterion__label_smoothing=0.1, random_state=seed,
            )  # fmt: skip
            model.steps[1] = ("clf", net)
        if dataset == "mnist" and candidate["patch_size"] == 1:
            model.set_params(clf__module__patch_size=4)  # a network on 4x4 blocks
        return model.set_params(**{f"vocab__{k}": v for k, v in candidate.items()})

    model = network(0, epochs)
    if tuned:
        first = network(1, 2).fit(X, y)
        vocabulary = PatchVocabulary.from_tokens(
            tuned_tokens(first, X, y), patch_size=candidate["patch_size"],
            per_channel=candidate["per_channel"], image_shape=X.shape[1:],
        )  # fmt: skip
        model.steps[0] = ("vocab", FrozenEstimator(vocabulary))
    model.fit(X, y)
    radii = model.certify(X_val)
    radii = radii.reshape(len(radii), -1)
    return {
        "accuracy": 100 * float(model.score(X_val, y_val)),
        "mean_radius": float(radii.mean()),
        "summed_radius": float(radii.sum(1).mean()),
        "smallest_radius": float(radii.min(1).mean()),
        "seconds": time.perf_counter() - start,
        "environment": environment(),
    }


def named(candidate):
    """Options as JSON holds them."""
    found = {key: getattr(value, "__name__", value) for key, value in candidate.items()}
    return json.loads(json.dumps(found))


def same_network(rows):
    """Rows whose accuracies differ by the vocabulary only."""
    return [row for row in rows if "module" not in row["options"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", nargs="+", default=[*CANDIDATES], choices=[*CANDIDATES])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--groups", nargs="+", metavar="NAME", help="these rows only")
    options = parser.parse_args()
    path = RESULTS / "pareto.json"
    kept = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    rows, settings = kept["rows"], {"images": options.images, "epochs": options.epochs}
    groups = {group for name in options.dataset for group, _ in CANDIDATES[name]}
    if unknown := set(options.groups or ()) - groups:
        parser.error(f"unknown groups {sorted(unknown)}; choose from {sorted(groups)}")
    if options.groups and kept.get("settings", settings) != settings:
        parser.error(f"the other rows have {kept['settings']}, not {settings}")
    for name in options.dataset:
        shown = [{"group": group, "options": named(candidate)}
                 for group, candidate in CANDIDATES[name]]  # fmt: skip
        before = rows.get(name, [])
        if options.groups and [{key: row[key] for key in shown[0]} for row in before] != shown:
            parser.error("the published rows are of other candidates; measure all groups")
        work = [(index, str(candidate)) for index, (group, candidate) in enumerate(CANDIDATES[name])
                if group in (options.groups or [group])]  # fmt: skip
        rows[name] = before if options.groups else list(shown)

        def run(index, _, name=name):
            return figures(name, CANDIDATES[name][index][1], **settings)

        for (index, _), found in stages(f"pareto_{name}", settings, work, run):
            rows[name][index] = {**shown[index], **found}
        rivals = same_network(rows[name])
        accuracy = [row["accuracy"] for row in rivals]
        for key in ("mean_radius", "summed_radius"):
            front = pareto_front([row[key] for row in rivals], accuracy)
            for row, best in zip(rivals, front, strict=True):
                row[f"front_{key}"] = bool(best)
        for row in rows[name]:
            line = f"{row['accuracy']:6.2f} % {row['mean_radius']:.3f} {row['summed_radius']:7.1f}"
            print(f"{name:8} {line}  {row['group']}: {row['options']}")
        save("pareto", {"settings": settings, "poster": POSTER, "rows": rows})


if __name__ == "__main__":
    main()
