"""Time of exact tokens and radii against the nearest-neighbour search alone.

    python benchmarks/certify.py [--patches 1500000] [--rounds 7]

Shows that `voronoi.certify`, the nearest token and the exact radius of every patch, costs about as
much as finding the nearest token (faiss IndexFlatL2, top-1), less than the two nearest (top-2), and
a small part of the naive form in torch (all float64 distances and all walls of a chunk of patches).
Contenders see the same CIFAR-10 patches, one channel of 4x4 pixels (d = 16), or 2x2 (d = 4), or
4x4x3 (d = 48), and a k-means vocabulary; they take turns within each round, and times are medians
over rounds with quartiles.  Slow contenders get a part of the patches, as the result says.  Also:
the peak of working memory above input and output, ours for ten million patches and everybody's for
one million, and the fit of a vocabulary, ours and faiss's Kmeans, until the reconstruction error is
that of scikit-learn's MiniBatchKMeans.

Needs faiss-cpu besides the package.  Result: benchmarks/results/certify.json and certify.png.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

if "--threads" in sys.argv:  # before any library starts its threads
    threads = sys.argv[sys.argv.index("--threads") + 1]
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads

import faiss
import numpy as np
import torch
from common import RESULTS, save, stages
from joblib import Parallel, delayed
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens
from sklearn_patchcert.voronoi import certificate, preparation

SHAPES = {4: ((2, 2), True), 16: ((4, 4), True), 48: ((4, 4), False)}
MOST = {"naive": 30e6, "argmin": 200e6, "top1": 5e9, "top2": 2e9, "ours": 6.3e11}
PEAKS = ["ours", "top1", "top2", "argmin", "naive"]


def patches_of(dim, n):
    """`n` patches (n, dim), float32, of CIFAR-10's training images."""
    size, per_channel = SHAPES[dim]
    images = load_images("cifar10").X_train[:25_000].astype(np.float32)
    patches = images_to_patches(images, size, per_channel=per_channel).reshape(-1, dim)
    return patches[np.random.default_rng(0).choice(len(patches), n, replace=False)]


def vocabulary_of(patches, n_tokens):
    """Tokens by a few steps of k-means; the largest vocabulary is distinct patches themselves."""
    if n_tokens > 4096:
        distinct = np.unique(patches, axis=0)
        return distinct[np.random.default_rng(1).choice(len(distinct), n_tokens, replace=False)]
    generator = torch.Generator().manual_seed(0)
    return kmeans_tokens(patches, n_tokens, max_iter=5, generator=generator)[0]


def naive(patches, tokens):
    """Ids and radii by torch: every distance, every wall."""
    found = []
    tokens = torch.tensor(tokens, dtype=torch.float64)
    between = torch.cdist(tokens, tokens)
    for chunk in torch.tensor(patches).split(max(1, 2**22 // len(tokens))):
        distances = torch.cdist(chunk.double(), tokens).square()
        nearest, ids = distances.min(1, keepdim=True)
        walls = (distances - nearest) / (2 * between[ids[:, 0]])
        found.append((ids[:, 0], walls.scatter(1, ids, torch.inf).amin(1)))
    return found


def contenders(tokens, n_threads):
    """Functions of patches by name."""
    index = faiss.IndexFlatL2(tokens.shape[1])
    index.add(tokens)

    def ours(patches):
        parts = np.array_split(patches[:, None], n_threads)
        run = Parallel(n_jobs=n_threads, prefer="threads")
        return run(delayed(certificate.certify)(part, tokens, device="cpu") for part in parts)

    functions = {
        "ours": ours,
        "top1": lambda patches: index.search(patches, 1),
        "top2": lambda patches: index.search(patches, 2),
        "argmin": lambda patches: pairwise_distances_argmin(patches, tokens),
    }
    if len(tokens) <= 4096:  # beyond, its table of all pairs of tokens fills the memory
        functions["naive"] = lambda patches: naive(patches, tokens)
    return functions


def compare(dim, n_tokens, n_threads, n_patches, rounds):
    """Seconds per million patches of every contender."""
    faiss.omp_set_num_threads(n_threads)
    torch.set_num_threads(n_threads)
    patches = patches_of(dim, n_patches)
    tokens = vocabulary_of(patches_of(dim, max(2 * n_tokens, 50_000)), n_tokens)
    certificate.certify(patches[:1, None], tokens)
    preparation._prepare.cache_clear()
    start = time.perf_counter()
    certificate.certify(patches[:1, None], tokens)
    prepared = time.perf_counter() - start
    functions = contenders(tokens, n_threads)

    def quartiles(values):
        return np.percentile(values[1:], (25, 50, 75)).tolist()

    work = dim * n_tokens
    parts = {name: patches[: int(min(n_patches, max(200, MOST[name] / work)))] for name in MOST}
    times = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function(parts[name])
            times[name].append((time.perf_counter() - start) / len(parts[name]) * 1e6)
    return {
        "n_tokens": len(tokens),
        "prepare_seconds": prepared,
        "patches": {name: len(part) for name, part in parts.items()},
        "microseconds_per_patch": {
            name: dict(zip(("low", "median", "high"), quartiles(values), strict=True))
            for name, values in times.items()
        },
    }


def memory(n_patches=10_000_000):
    """Peak of resident memory above input, tokens and output, in megabytes."""
    code = f"""
import resource, numpy as np
from sklearn_patchcert import PatchVocabulary
rng = np.random.default_rng(0)
n = {n_patches} // 64
X = rng.integers(0, 256, size=(n, 32, 32), dtype=np.uint8)
vocabulary = PatchVocabulary.from_tokens(
    rng.integers(0, 256, size=(512, 16)).astype(np.float32), patch_size=4, image_shape=(32, 32)
)
vocabulary.certify(X[:2000])
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1024
radii = vocabulary.certify(X)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024 - radii.nbytes / 2**20)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"patches": n_patches, "megabytes": float(found.stdout)}


def peak(number, n_patches=1_000_000, n_tokens=512):
    """Peak of resident memory above the input of one contender, its result included, megabytes."""
    rng = np.random.default_rng(0)
    patches = rng.random((n_patches, 16), dtype=np.float32)
    functions = contenders(rng.random((n_tokens, 16), dtype=np.float32), 1)
    function = functions[PEAKS[number]]
    function(patches[:2000])
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    kept = function(patches)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del kept
    return {"patches": n_patches, "n_tokens": n_tokens, "megabytes": (after - before) / 2**20}


def fit(n_tokens, rounds=3):
    """Seconds until k-means, ours and faiss's, has the error of MiniBatchKMeans, and its own."""
    patches, rows = patches_of(16, 200_000), []

    def error(tokens):
        ids = certificate.tokenize(patches[:, None], tokens)[:, 0]
        return float(np.square(patches - tokens[ids]).sum(1).mean())

    def ours(steps, seed):
        generator = torch.Generator().manual_seed(seed)
        return kmeans_tokens(patches, n_tokens, max_iter=steps, generator=generator)[0]

    def faiss_kmeans(steps, seed):
        options = {"niter": steps, "seed": seed, "max_points_per_centroid": 10**6}
        trainer = faiss.Kmeans(16, n_tokens, **options)
        trainer.train(patches)
        return trainer.centroids

    for seed in range(rounds):
        start = time.perf_counter()
        theirs = MiniBatchKMeans(n_tokens, random_state=seed, n_init=1).fit(patches)
        row = {"minibatch_seconds": time.perf_counter() - start}
        row["minibatch_error"] = error(theirs.cluster_centers_)
        for name, function in (("", ours), ("faiss_", faiss_kmeans)):
            for steps in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96):
                start = time.perf_counter()
                tokens = function(steps, seed)
                row[f"{name}seconds"] = time.perf_counter() - start
                row[f"{name}steps"], row[f"{name}error"] = steps, error(tokens)
                if row[f"{name}error"] <= row["minibatch_error"]:
                    break
        rows.append(row)
    return {name: [row[name] for row in rows] for name in rows[0]}


def draw(rows):
    """Time against the number of tokens, d = 16, one thread."""
    from matplotlib import pyplot

    names = {
        "ours": "tokens and exact radii",
        "top1": "faiss, nearest token",
        "top2": "faiss, two nearest",
        "argmin": "scikit-learn, nearest token",
        "naive": "naive torch",
    }
    figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    some = [row for row in rows if row["dim"] == 16 and row["threads"] == 1]
    for name, label in names.items():
        drawn = [row for row in some if name in row["microseconds_per_patch"]]
        values = [row["microseconds_per_patch"][name]["median"] for row in drawn]
        ax.loglog([row["n_tokens"] for row in drawn], values, "o-", label=label)
    ax.set(xlabel="tokens", ylabel="microseconds per patch", title="4x4 patches, one thread")
    ax.legend()
    figure.savefig(RESULTS / "certify.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="used by the script itself")
    parser.add_argument("--case", help="used by the script itself")
    options = parser.parse_args()
    if options.case:
        name, *numbers = options.case.split()
        numbers = list(map(int, numbers))
        if name == "compare":
            result = compare(*numbers, options.threads, options.patches, options.rounds)
        else:
            result = {"memory": memory, "fit": fit, "peak": peak}[name](*numbers)
        print(json.dumps(result))
        return

    settings = {"patches": options.patches, "rounds": options.rounds}

    def run(threads, *case):
        """Each case in a process of its own, so that every library counts its threads alike."""
        values = {"threads": threads, "case": " ".join(map(str, case)), **settings}
        command = [sys.executable, __file__]
        for name, value in values.items():
            command += [f"--{name}", str(value)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(found.stdout.splitlines()[-1])

    sizes = (64, 512, 4096, 65536)
    work = [(t, "compare", d, k) for d in (16, 4, 48) for t in (1, 2) for k in sizes]
    work += [(1, "memory"), *((1, "fit", k) for k in (64, 512))]
    work += [(1, "peak", number) for number in range(len(PEAKS))]
    result = {"settings": settings, "rows": [], "fit": {}, "peak": {}}
    for key, found in stages("certify", settings, work, run):
        if key[1] == "compare":
            result["rows"].append({"threads": key[0], "dim": key[2], **found})
        elif key[1] == "fit":
            result["fit"][key[2]] = found
        elif key[1] == "peak":
            result["peak"][PEAKS[key[2]]] = found
        else:
            result["memory"] = found
    save("certify", {**result, "faiss": faiss.__version__})
    draw(result["rows"])
    for row in result["rows"]:
        times = {n: t["median"] for n, t in row["microseconds_per_patch"].items()}
        print(
            f"d {row['dim']:2}, {row['n_tokens']:5} tokens, {row['threads']} thread(s): "
            f"{times['ours']:.3f} us, {times['ours'] / times['top1']:.2f} of top-1, "
            f"{times['ours'] / times['top2']:.2f} of top-2, "
            f"naive takes {times.get('naive', np.nan) / times['ours']:.0f} times as long"
        )


if __name__ == "__main__":
    main()
