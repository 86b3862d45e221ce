"""Time from images to exact patch radii, as a user calls it, beside the search for tokens alone.

    python benchmarks/certify_images.py [--images 1000] [--rounds 15]

Shows that `PatchVocabulary.certify` on images costs about as much as the engine on patches that
were cut before, also for float64, 8-bit and memory-mapped images, and how both compare with
finding the nearest token only: faiss (IndexFlatL2, top-1) and scikit-learn
(pairwise_distances_argmin), which include the cutting into patches, too.  All see the same CIFAR-10
images, cut into patches of 4x4 pixels of one channel (192 per image), and tokens by a few steps of
k-means.  Everybody has one thread and takes a turn in each round; ratios are of times within a
round, given as medians with quartiles.  Slow contenders get some of the images, as the result says.
The peak of traced memory, without the result, is measured apart from the times.

Needs faiss-cpu besides the package.  Result: benchmarks/results/certify_images.json.
"""

import argparse
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before any library starts
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import faiss
import numpy as np
import torch
from common import save
from sklearn.metrics import pairwise_distances_argmin
from tqdm.auto import tqdm

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens
from sklearn_patchcert.voronoi import certificate

SIZES = (64, 512, 4096)
MOST = 3e7  # patches times tokens of a round of scikit-learn, the slowest


def cut(images):
    """Patches (n, 16), float32, in the obvious way."""
    images = images.astype(np.float32, copy=False)
    return images_to_patches(images, (4, 4), per_channel=True).reshape(-1, 16)


def contenders(images, tokens):
    """Functions without arguments by name, and the share of the images that each is given."""
    vocabulary = PatchVocabulary.from_tokens(
        tokens, patch_size=4, per_channel="shared", image_shape=images.shape[1:]
    )
    vocabulary.set_params(device="cpu")
    index = faiss.IndexFlatL2(16)
    index.add(tokens)
    floats, doubles = images.astype(np.float32), images.astype(np.float64)
    patches, patches64 = cut(floats)[:, None], cut(floats).astype(np.float64)[:, None]
    few = floats[: max(1, int(MOST / len(tokens) / 192))]
    return {
        "engine": lambda: certificate.certify(patches, tokens, device="cpu"),
        "engine float64": lambda: certificate.certify(patches64, tokens, device="cpu"),
        "certify": lambda: vocabulary.certify(floats),
        "certify float64": lambda: vocabulary.certify(doubles),
        "certify uint8": lambda: vocabulary.certify(images),
        "tokenize": lambda: vocabulary.tokenize(floats),
        "transform": lambda: vocabulary.transform(floats),
        "faiss": lambda: index.search(cut(floats), 1),
        "scikit-learn": lambda: pairwise_distances_argmin(cut(few), tokens),
    }, {"scikit-learn": len(few) / len(images)}


def quartiles(values):
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": middle, "quartiles": [low, high]}


def compare(images, n_tokens, rounds):
    """Seconds of each contender for all the images, and ratios to the engine and to faiss."""
    generator = torch.Generator().manual_seed(0)
    tokens = kmeans_tokens(cut(images), n_tokens, max_iter=5, generator=generator)[0]
    functions, shares = contenders(images, np.ascontiguousarray(tokens, np.float32))
    times = {name: [] for name in functions}
    for _ in tqdm(range(rounds + 1), desc=f"{n_tokens} tokens"):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - start) / shares.get(name, 1.0))
    times = {name: np.array(some[1:]) for name, some in times.items()}  # the first compiles
    rows = {}
    for name, some in times.items():
        engine = "engine float64" if name.endswith("float64") else "engine"
        rows[name] = {
            "seconds": quartiles(some),
            "of engine": quartiles(some / times[engine]),
            "of faiss": quartiles(some / times["faiss"]),
        }
    return {"n_tokens": n_tokens, "rows": rows, "scikit-learn images": shares["scikit-learn"]}


def peaks(images, n_tokens=512):
    """Megabytes at the peak of a call besides its result, by dtype, in memory and mapped."""
    tokens = cut(images)[:: len(images) * 192 // n_tokens][:n_tokens]
    vocabulary = PatchVocabulary.from_tokens(
        np.unique(tokens, axis=0), patch_size=4, per_channel="shared", image_shape=images.shape[1:]
    )
    vocabulary.set_params(device="cpu").certify(images[:1])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("uint8", "float16", "float32", "float64"):
            path = Path(folder) / "images.npy"
            np.save(path, images.astype(dtype))
            for kind, mode in (("in memory", None), ("mapped", "r")):
                given = np.load(path, mmap_mode=mode)
                vocabulary.certify(given[:1])
                for call in ("certify", "tokenize", "transform"):
                    tracemalloc.start()
                    result = getattr(vocabulary, call)(given)
                    peak = tracemalloc.get_traced_memory()[1] - result.nbytes
                    tracemalloc.stop()
                    found[f"{call} {dtype} {kind}"] = peak / 2**20
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    every = load_images("cifar10").X_train
    images = np.ascontiguousarray(every[:: len(every) // options.images][: options.images])
    result = {
        "settings": {"images": len(images), "rounds": options.rounds},
        "faiss": faiss.__version__,
        "megabytes of the images in uint8": images.nbytes / 2**20,
        "sizes": [compare(images, n_tokens, options.rounds) for n_tokens in SIZES],
        "peak megabytes besides the result": peaks(images),
    }
    save("certify_images", result)
    for size in result["sizes"]:
        for name, row in size["rows"].items():
            print(
                f"{size['n_tokens']:5} tokens, {name:15}: "
                f"{row['seconds']['median'] * 1e3:8.1f} ms, "
                f"{row['of engine']['median']:.2f} of the engine, "
                f"{row['of faiss']['median']:.2f} of faiss"
            )
    for name, peak in result["peak megabytes besides the result"].items():
        print(f"{name:30}: {peak:.2f} MiB")


if __name__ == "__main__":
    main()
