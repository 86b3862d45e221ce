"""Time, memory and error of k-means beside faiss, and of exemplars by number of patches.

    python benchmarks/kmeans.py [--patches 1000000] [--tokens 4096] [--steps 10] [--rounds 3]
    python benchmarks/kmeans.py --whole        # 10 million patches: adds rows, about 10 minutes

Shows what `kmeans_tokens` costs beside faiss.Kmeans, the baseline in the same run: both train on
all of the same patches (by default about the 256 for each token to which faiss limits itself),
for the same number of Lloyd's steps, with the same threads.  Ours starts from k-means++ seeds and
works on distinct patches, faiss from a random draw.  That time is part of each.  The error is the
mean squared distance of held-out patches to their nearest token, computed in the same way for both.
Each fit runs in a process of its own, in turns.  Patches are cut from CIFAR-10, 2x2 and 4x4 pixels
in three colors, with values in 0..1.  `seconds` are wall time, `cpu` is the time of all threads,
which a busy machine disturbs less, and `MiB` is the peak besides the patches.  Ratios are of one
round.

The second part times the choice of exemplars at a fixed distance, and fits the exponent with which
that grows in the number of patches.

Needs faiss-cpu besides the package.  Rows are kept as they are made, so a stopped run continues.
Result: benchmarks/results/kmeans.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import save, stages

from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches

HELD_OUT = 50_000
SIDES = (2, 4)
EXEMPLARS = (50_000, 100_000, 200_000, 400_000)
DISTANCES = {12: 0.14, 48: 0.75}  # with which some 5 to 20 of 100 patches are chosen
# patches, tokens, steps: what --whole adds; more does not end within minutes for faiss
WHOLE = {12: ((10_000_000, 4096, 3), (1_000_000, 65_536, 2)),
         48: ((10_000_000, 4096, 1), (500_000, 65_536, 1))}  # fmt: skip


def cut(folder, side, wanted):
    """Store 50,000 held-out patches and so many others (n, dim) in float32; the paths of both.

    They are of different images.  Where one grid has too few patches, there are shifted grids, too.
    """
    random = np.random.default_rng(0)
    images = load_images("cifar10").X_train
    images = images[random.permutation(len(images))]
    held_out = -(-HELD_OUT // (32 // side - 1) ** 2)

    def patches(some, row=0, col=0):
        some = some[:, row : row + 32 - side, col : col + 32 - side]
        return images_to_patches(some, (side, side)).reshape(-1, side * side * 3) / np.float32(255)

    paths = [Path(folder) / f"{side}-{name}.npy" for name in ("held", "train")]
    np.save(paths[0], patches(images[:held_out])[:HELD_OUT])
    train = np.lib.format.open_memmap(paths[1], "w+", np.float32, (wanted, side * side * 3))
    at, parts = 0, np.array_split(images[held_out:], 50)
    for row, col in np.ndindex(side, side):
        left, capacity = wanted - at, sum(map(len, parts)) * (32 // side - 1) ** 2
        for part in parts:
            some = patches(part, row, col)
            count = min(len(some), -(-left * len(some) // capacity), wanted - at)
            train[at : at + count] = some[random.choice(len(some), count, replace=False)]
            at += count
    assert at == wanted, "there are not that many patches"
    return paths


def one_fit(name, path, held, n_patches, n_tokens, steps, threads):
    """Print the seconds, peak MiB and error on the held-out patches of one fit, as JSON."""
    import torch

    from sklearn_patchcert.vocabulary.clustering.assignment import count_and_error
    from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens

    torch.set_num_threads(threads)
    patches, held = np.load(path, mmap_mode="r")[:n_patches], np.load(held)
    if name == "faiss":
        import faiss

        faiss.omp_set_num_threads(threads)
        patches = np.ascontiguousarray(patches)  # in memory, as it needs them

        def fit():
            clustering = faiss.Kmeans(
                patches.shape[1], n_tokens, niter=steps, seed=0,
                max_points_per_centroid=2**31 - 1, min_points_per_centroid=1,
            )  # fmt: skip
            clustering.train(patches)
            return clustering.centroids
    else:
        patches = np.ascontiguousarray(patches)

        def fit():
            generator = torch.Generator().manual_seed(0)
            return kmeans_tokens(
                patches, n_tokens, max_iter=steps, tol=-np.inf, generator=generator, n_jobs=threads
            )[0]

    kmeans_tokens(held[:2000], min(n_tokens, 600), max_iter=1)  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
    before = memory("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    tokens = fit()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory("VmHWM") - before
    error = count_and_error(held, np.ascontiguousarray(tokens))[1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "MiB": peak, "error": error}))


def memory(name):
    """MiB that Linux reports for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def fit_apart(name, paths, *sizes):
    """What `one_fit` prints in a process of its own."""
    threads = str(sizes[-1])
    limits = {f"{library}_NUM_THREADS": threads for library in ("OMP", "OPENBLAS", "MKL")}
    call = [sys.executable, __file__, "--one-fit", name, *map(str, (paths[1], paths[0], *sizes))]
    found = subprocess.run(call, env={**os.environ, **limits}, stdout=subprocess.PIPE, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def compare(paths, n_patches, n_tokens, steps, threads, rounds):
    """Each round of both, and the medians of the ratios of ours to faiss's."""
    sizes = n_patches, n_tokens, steps, threads
    runs = {"ours": [], "faiss": []}
    for _ in range(rounds):
        for name, some in runs.items():
            some.append(fit_apart(name, paths, *sizes))
    ratios = {}
    for key in ("seconds", "cpu", "MiB", "error"):
        found = [a[key] / b[key] for a, b in zip(runs["ours"], runs["faiss"], strict=True)]
        low, middle, high = np.percentile(found, (25, 50, 75)).tolist()
        ratios[key] = {"median": middle, "quartiles": [low, high]}
    return {"runs": runs, "ratios": ratios}


def exemplars(path, sizes, distance, threads):
    """CPU seconds and number of tokens by number of patches, and the exponent of the growth."""
    import torch

    from sklearn_patchcert.vocabulary.exemplars import exemplar_tokens

    patches, rows = np.load(path, mmap_mode="r"), []
    for size in (2000, *sizes):  # the first compiles
        start, cpu = time.perf_counter(), time.process_time()
        tokens = exemplar_tokens(
            np.array(patches[:size]), 10**9, distance, n_jobs=threads,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        rows.append({"patches": size, "tokens": len(tokens), "seconds": seconds, "cpu": cpu})
    rows = rows[1:]
    x, y = (np.log([row[key] for row in rows]) for key in ("patches", "cpu"))
    return {"distance": distance, "rows": rows, "exponent": float(np.polyfit(x, y, 1)[0])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--whole", action="store_true", help="rows of 10 million and 65,536 tokens")
    options = parser.parse_args()
    work = []
    for side in SIDES:
        dim = side * side * 3
        work.append((dim, options.patches, options.tokens, options.steps, options.rounds))
        work += [(dim, *row, 1) for row in WHOLE[dim] if options.whole]
    work += [(side * side * 3, "exemplars") for side in SIDES]
    with tempfile.TemporaryDirectory() as folder:
        made = {}

        def run(dim, *row):
            if dim not in made:
                most = max(n[1] for n in work if n[0] == dim and n[1] != "exemplars")
                made[dim] = cut(folder, {12: 2, 48: 4}[dim], max(most, *EXEMPLARS))
            if row == ("exemplars",):
                return exemplars(made[dim][1], EXEMPLARS, DISTANCES[dim], options.threads)
            *sizes, rounds = row
            return compare(made[dim], *sizes, options.threads, rounds)

        rows, nets = [], {}
        for (dim, *row), found in stages("kmeans", vars(options), work, run):
            if row == ["exemplars"]:
                nets[str(dim)] = found
                continue
            names = ("patches", "tokens", "steps", "rounds")
            rows.append({"numbers": dim, **dict(zip(names, row, strict=True)), **found})
            print(rows[-1])
    import faiss

    result = {"settings": vars(options), "faiss": faiss.__version__}
    save("kmeans", {**result, "rows": rows, "exemplars": nets})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-fit"]:
        name, path, held, *numbers = sys.argv[2:]
        one_fit(name, path, held, *map(int, numbers))
    else:
        main()
