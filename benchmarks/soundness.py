"""No perturbation inside a radius changes a token or a prediction; the witness shows tightness.

    python benchmarks/soundness.py [--millions 10] [--part patches | predictions] [--quick]

Patches
-------
For every engine, norm, dtype and scale of the values, patches of CIFAR-10 (digits with `--quick`)
are certified and moved, as far as numbers of that dtype allow without leaving the radius (checked
in extended precision), along six directions: to the nearest wall, to another token's wall, to two
walls at once, at random, at random near the witness, and in several steps that feel their way to
where the radius left is least.  Both engines then tokenise what came out; every change would be a
false certificate.
The same patches, moved along the witness by one part in a thousand more than the radius, should
change their tokens.  A third of the patches are sums of two tokens' halves, the hardest to tell.

Predictions
-----------
For every composition of `compositions.py` (what follows the tokens, its wrapper, scalers, dtypes)
the predictions of digits are certified, and perturbations inside the certified radius are
predicted in one large batch, and some of them alone and in batches of seven.  They cross the
nearest walls of some patches, or go in random directions, or are the images themselves.  Every
other class would be a false certificate.  "refused" are models in which rounding decides, for
which `certify_prediction` raises.

Result: benchmarks/results/soundness.json and predictions.json.
"""

import argparse
import itertools
import warnings

import compositions
import numpy as np
from common import save, stages

from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.voronoi import certificate

NORMS = {"l2": 2, "linf": np.inf, "l1": 1}
SCALES = (1e-20, 1.0, 1e20)
SIZES = {64: 1.0, 512: 0.6, 4096: 0.05}  # tokens: part of the patches that dense can afford
ROUND = 12  # attempts to come as close to the radius as the dtype allows


def size_of(steps, norm):
    """Norms (n,) of steps (n, dim) in extended precision."""
    steps = np.abs(steps.astype(np.longdouble))
    if norm == "l2":
        largest = np.maximum(steps.max(1), np.finfo(np.longdouble).tiny)
        return largest * np.sqrt(np.square(steps / largest[:, None]).sum(1))
    return steps.max(1) if norm == "linf" else steps.sum(1)


def push(patches, steps, radii, norm):
    """Patches (n, dim) moved along steps, in their dtype, as far as the radii (n,) allow."""
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = radii / size_of(steps, norm).astype(np.float64)
    factor[~np.isfinite(factor)] = 0
    moved = patches.copy()
    for attempt in range(ROUND):
        with np.errstate(over="ignore", invalid="ignore"):
            trial = (patches + factor[:, None] * steps).astype(patches.dtype)
        apart = trial.astype(np.longdouble) - patches.astype(np.longdouble)
        inside = size_of(apart, norm) <= radii.astype(np.longdouble)
        moved[inside] = trial[inside]
        if inside.all():
            break
        factor[~inside] *= 1 - 2.0 ** (attempt - ROUND * 4 + 4 * attempt)
    return moved


def directions(patches, tokens, ids, others, norm, rng):
    """Named steps (n, dim) that a radius has to withstand."""
    n, dim = patches.shape

    def to_wall(behind):
        steps = certificate.step_to_wall(
            patches[:, None], tokens, ids[:, None], behind[:, None], norm
        )
        return np.nan_to_num(steps[:, 0])

    def at_random():
        if norm == "linf":
            return rng.choice([-1.0, 1.0], size=(n, dim))
        steps = rng.normal(size=(n, dim))
        alone = np.abs(steps) == np.abs(steps).max(1, keepdims=True)
        return steps * alone if norm == "l1" else steps

    wall = to_wall(others)
    length = np.abs(wall).max(1, keepdims=True)
    second = to_wall(np.where(ids == (k := rng.integers(len(tokens), size=n)), others, k))
    unit = second / np.maximum(np.abs(second).max(1, keepdims=True), 1e-300)
    yield "to the nearest wall", wall
    yield "to another wall", second
    yield "to two walls", wall + 0.3 * length * unit
    yield "at random", at_random()
    yield "near the witness", wall + 0.05 * length * at_random()


def feel(patches, tokens, ids, radii, norm, rng, tries=4):
    """Patches that walked, within their radius, to where the least is left of it."""
    best, gap = patches.copy(), np.full(len(patches), np.inf)
    for _ in range(tries):
        steps = (best - patches) + radii[:, None] * rng.normal(size=patches.shape)
        trial = push(patches, steps, radii, norm)
        left, _ = _reach(trial, tokens, ids, norm)
        better = left < gap
        best[better], gap[better] = trial[better], left[better]
    return best


def _reach(patches, tokens, ids, norm):
    found, radii = certificate.certify(patches[:, None], tokens, norm, engine="walk")
    return np.where(found[:, 0] == ids, radii[:, 0], -1.0), found


def draw(images, n_tokens, n, dtype, scale, rng):
    """Patches (n, 16) and a vocabulary of others, moved off the grid of pixels."""
    images = images if images.ndim == 4 else images[..., None]
    patches = images_to_patches(images, (4, 4), per_channel=True).reshape(-1, 16)
    patches = patches[rng.choice(len(patches), n + n_tokens, replace=n + n_tokens > len(patches))]
    patches = patches + rng.normal(scale=0.3, size=patches.shape)
    patches, tokens = patches[:n], patches[n:]
    between = tokens[rng.integers(n_tokens, size=(2, n // 3))].mean(0)
    patches[: n // 3] = between + rng.normal(scale=1e-3, size=between.shape)
    return (scale * patches).astype(dtype), (scale * tokens).astype(dtype)


def attack(images, engine, norm, dtype, scale, n_tokens, n, seed=0):
    """Perturbations inside the radius and how many changed a token; changes just beyond it."""
    rng = np.random.default_rng(seed)
    patches, tokens = draw(images, n_tokens, n, dtype, scale, rng)
    ids, radii, others = (
        found[:, 0]
        for found in certificate.certify(
            patches[:, None], tokens, norm, engine=engine, return_witness=True
        )
    )
    steps = dict(directions(patches, tokens, ids, others, norm, rng))
    moved = {name: push(patches, step, radii, norm) for name, step in steps.items()}
    moved["by feel"] = feel(patches, tokens, ids, radii, norm, rng)
    changed = 0
    for name, judge in itertools.product(moved, ("dense", "walk")):
        found = certificate.tokenize(moved[name][:, None], tokens, engine=judge)[:, 0]
        changed += int((found != ids).sum())
    wall = "to the nearest wall"
    used = size_of(moved[wall].astype(np.longdouble) - patches.astype(np.longdouble), norm)
    beyond = patches.astype(np.float64) + (1 + 1e-3) * steps[wall]
    found = certificate.tokenize(beyond[:, None], tokens, engine=engine)[:, 0]
    return {
        "inside": n * len(moved),
        "changed": changed,
        "median_part_of_the_radius": float(np.median(used[radii > 0] / radii[radii > 0])),
        "beyond": n,
        "changed_beyond": int((found != ids).sum()),
        "zero_radii": int((radii == 0).sum()),
    }


def of_patches(total, dataset):
    """Attack the radii of patches; prints and saves the sums."""
    images = load_images(dataset).X_train[:10_000].astype(np.float64)
    cases = list(itertools.product(("dense", "walk"), NORMS, ("float32", "float64"), SCALES))
    unit = total / 6 / len(cases) / sum(SIZES.values())
    work = [
        (*case, n_tokens, int(np.ceil(part * unit)))
        for case in cases
        for n_tokens, part in SIZES.items()
    ]
    settings = {"dataset": dataset, "perturbations": total}
    names = ("engine", "norm", "dtype", "scale", "n_tokens", "patches")
    rows = [
        {**dict(zip(names, key, strict=True)), **found}
        for key, found in stages(
            "soundness",
            settings,
            work,
            lambda engine, norm, dtype, scale, n_tokens, n: attack(
                images, engine, norm, dtype, scale, n_tokens, n
            ),
        )
    ]
    totals = {
        name: sum(row[name] for row in rows)
        for name in ("inside", "changed", "beyond", "changed_beyond", "zero_radii")
    }
    print(totals, f"{totals['changed_beyond'] / totals['beyond']:.5f} changed just beyond")
    save("soundness", {"settings": settings, **totals, "rows": rows})


def of_predictions(total):
    """Attack the certificates of predictions; prints the table and saves it."""
    table = {one.name if one else "committee": one for one in [*compositions.table(), None]}
    n_images = 40 if total > 1e6 else 4
    each = int(np.ceil(total / len(table) / n_images * 1.4))  # some have fewer certified images
    settings = {"tries": total, "n_images": n_images, "per_image": each}
    rows = []
    print(f"{'composition':45}{'tries':>9}{'changed':>9}{'certified':>11}{'median radius':>15}")
    for (name,), found in stages(
        "predictions", settings, [(name,) for name in table],
        lambda name: _predictions(table[name], n_images, each),
    ):  # fmt: skip
        rows.append({"composition": name, **found})
        certified = "refused" if found["refused"] else f"{found['certified']}/{found['images']}"
        print(f"{name:45}{found['tries']:9}{found['changed']:9}{certified:>11}"
              f"{found['median_radius']:15.3f}")  # fmt: skip
    totals = {name: sum(row[name] for row in rows) for name in ("tries", "changed", "refused")}
    print(totals)
    save("predictions", {"settings": settings, **totals, "rows": rows})


def _predictions(composition, n_images, each):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's estimators converge late
        try:
            found = compositions.attack(composition, n_images, each, singles=n_images * each // 40)
        except compositions.Refused:
            found = {"tries": 0, "changed": 0, "certified": 0, "images": n_images,
                     "median_radius": 0.0, "refused": 1}  # fmt: skip
    return {"refused": 0, **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=10.0)
    parser.add_argument("--part", choices=["patches", "predictions"], help="one of the two")
    parser.add_argument("--quick", action="store_true", help="digits, ten thousand perturbations")
    options = parser.parse_args()
    total = 1e4 if options.quick else options.millions * 1e6
    if options.part != "predictions":
        of_patches(total, "digits" if options.quick else "cifar10")
    if options.part != "patches":
        of_predictions(total)


if __name__ == "__main__":
    main()
