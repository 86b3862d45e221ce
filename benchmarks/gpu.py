"""Time of exact tokens and radii on a GPU against a bare matrix product and nearest-token searches.

    python benchmarks/gpu.py                # on a machine with a GPU, under 5 minutes
    python benchmarks/gpu.py --device cpu   # a dry run without one, which writes nothing

Shows what `voronoi.certify` costs on a GPU, with the copies of the patches to it and of the results
back, and without ("resident": patches and results stay there).  The rows beside it, in the same
run and in turns within each round, compute less:

- gemm: the product of patches and tokens in float32, TF32 off, and nothing else; the goal is at
  most 3 times its time at 4,096 tokens, resident;
- cdist: torch.cdist in float32 and the two nearest by topk, which is not exact;
- faiss: IndexFlatL2 on the GPU, the nearest token, where faiss has GPUs;
- cpu: `voronoi.certify` on the CPU of the same machine, in as many threads as there are cores.

Patches are of CIFAR-10, 4x4 pixels of one channel (d = 16) or three (d = 48), tokens by a few steps
of k-means; drawn at random, in groups, where CIFAR-10 is not cached.  Times are medians over rounds
with quartiles.  Every case also checks that ids and radii have the bits of the CPU's, and tells how
many patches float64 decided, and by how long a shortlist.  "auto_from" is the work, patches times
numbers times tokens, from which on the GPU was faster than the CPU in every case: what
`LEAST_WORK` in `sklearn_patchcert/voronoi/engines/devices.py` may be set to.

An estimate, not a measurement, of what to expect: by the roofline model the time of a kernel is the
larger of bytes / bandwidth and operations / rate.  With k tokens of d numbers a patch has 2 d k
float32 operations and 4 k bytes of scores, written once by the product and read once more; so the
product takes max(2 d k / rate, 4 k / bandwidth) and the whole at least 4 k / bandwidth more, plus
about 10 d (2 + shortlist) 8 bytes of float64 in unfused operations, and some 200 + 10 d kernels of
about 5 microseconds for each chunk.  `estimate` prints it for the device's data sheet.

Result: benchmarks/results/gpu.json.
"""

import argparse
import functools
import os
import sys
import time

import numpy as np
import torch
from common import environment, save
from joblib import Parallel, delayed

from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.torch_globals import plain_torch
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens
from sklearn_patchcert.voronoi import certificate
from sklearn_patchcert.voronoi.engines import two_pass

CASES = [(d, k) for d in (16, 48) for k in (64, 512, 4096)]
SIZES = (10_000, 192_000, 1_500_000)  # patches; the last with d = 16 alone
ROUNDS = 7
SECONDS = 240  # after which no further case is started
RATE, BANDWIDTH, START = 60e12, 3e12, 5e-6  # float32 operations, bytes, seconds: a large GPU


@functools.cache
def patches_of(dim):
    """Patches (n, dim), float32, of CIFAR-10's training images, or in groups at random."""
    rng, n = np.random.default_rng(0), SIZES[-1]
    try:
        images = load_images("cifar10").X_train[:25_000].astype(np.float32)
    except OSError:  # neither cached nor to be downloaded
        centres = rng.normal(size=(64, dim))
        drawn = centres[rng.integers(64, size=n)] + 0.3 * rng.normal(size=(n, dim))
        return drawn.astype(np.float32), "random groups"
    patches = images_to_patches(images, (4, 4), per_channel=dim == 16).reshape(-1, dim)
    return patches[rng.choice(len(patches), min(n, len(patches)), replace=False)], "cifar10"


@functools.cache
def tokens_of(dim, n_tokens):
    """Tokens (n_tokens, dim) by a few steps of k-means of some of the patches."""
    some = patches_of(dim)[0][-max(2 * n_tokens, 20_000) :]
    generator = torch.Generator().manual_seed(0)
    return kmeans_tokens(some, n_tokens, max_iter=2, generator=generator)[0]


def estimate(n, dim, n_tokens, listed=0.4):
    """Seconds by the roofline model, of the product and of the whole: an estimate."""
    gemm = max(2 * dim * n_tokens / RATE, 4 * n_tokens / BANDWIDTH)
    rest = 4 * n_tokens / BANDWIDTH + 80 * dim * (2 + listed) / BANDWIDTH
    return {"gemm": n * gemm, "two_pass": n * (gemm + rest) + (200 + 10 * dim) * START}


def faiss_index(tokens, device):
    """faiss's flat index on the device, or None and the reason."""
    try:
        import faiss
    except ImportError:
        return None, "faiss is not installed"
    index = faiss.IndexFlatL2(tokens.shape[1])
    if device.type == "cuda":
        if not getattr(faiss, "get_num_gpus", int)():
            return None, "this faiss has no GPUs"
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    index.add(tokens)
    return index, None


def cdist(points, tokens):
    """The two nearest tokens in float32, chunk by chunk."""
    parts = points.split(max(1, 2**30 // (4 * len(tokens))))
    return [torch.cdist(part, tokens).topk(2, largest=False) for part in parts]


def contenders(patches, tokens, device, prepared):
    """Functions by name, and what is missing."""
    points = torch.from_numpy(patches).to(device)
    values = torch.from_numpy(tokens).to(device)
    out = torch.empty(min(len(points), two_pass.chunk_size(prepared)), len(tokens), device=device)
    index, reason = faiss_index(tokens, device)
    threads = os.cpu_count() or 1

    def gemm():
        with plain_torch():
            for part in points.split(len(out)):
                torch.matmul(part, values.T, out=out[: len(part)])

    def nearest():
        with plain_torch():
            return cdist(points, values)

    def cpu():
        parts = np.array_split(patches[:, None], threads)
        run = Parallel(n_jobs=threads, prefer="threads")
        return run(delayed(certificate.certify)(part, tokens, device="cpu") for part in parts)

    def ours():
        return certificate.certify(patches[:, None], tokens, device=device, engine="two_pass")

    functions = {
        "two_pass": ours,
        "resident": lambda: two_pass.search_tensors(points, prepared),
        "gemm": gemm,
        "cdist": nearest,
        "cpu": cpu,
    }
    if index is not None:
        functions["faiss"] = lambda: index.search(patches, 1)
    return functions, {} if reason is None else {"faiss": reason}


def compare(dim, n_tokens, n, device, rounds):
    """Microseconds per patch of every contender, and what shows that the results are right."""
    patches, source = patches_of(dim)
    patches, tokens = patches[:n], tokens_of(dim, n_tokens)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    start = time.perf_counter()
    prepared = two_pass.prepare(tokens.astype(np.float64), np.ones(dim), "l2", device)
    synchronize()
    seconds, tally = time.perf_counter() - start, {}
    ids, radii, _ = two_pass.search(patches, prepared, tally=tally)
    wanted = certificate.certify(patches[:, None], tokens, device="cpu")
    same = np.array_equal(ids, wanted[0][:, 0]) and np.array_equal(radii, wanted[1][:, 0])
    functions, missing = contenders(patches, tokens, device, prepared)
    times = {name: [] for name in functions}
    for _ in range(rounds + 1):  # the first is not counted
        for name, function in functions.items():
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            times[name].append((time.perf_counter() - start) / len(patches) * 1e6)
    quartiles = {
        name: dict(zip(("low", "median", "high"), np.percentile(t[1:], (25, 50, 75)), strict=True))
        for name, t in times.items()
    }
    return {
        "dim": dim,
        "n_tokens": len(tokens),
        "patches": len(patches),
        "source": source,
        "same_bits_as_the_cpu": bool(same),
        "prepare_seconds": seconds,
        "share": {name: count / len(patches) for name, count in tally.items()},
        "missing": missing,
        "microseconds_per_patch": quartiles,
        "times_gemm": quartiles["resident"]["median"] / quartiles["gemm"]["median"],
        "estimated_seconds": estimate(len(patches), dim, n_tokens),
    }


def auto_from(rows):
    """Work from which on the GPU won every case; None if it did not win the largest."""

    def work(row):
        return row["patches"] * row["dim"] * row["n_tokens"]

    least = None
    for row in sorted(rows, key=work, reverse=True):
        times = row["microseconds_per_patch"]
        if times["two_pass"]["high"] >= times["cpu"]["low"]:
            break
        least = work(row)
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    device = torch.device(options.device)
    dry = device.type == "cpu"
    if not dry and not torch.cuda.is_available():
        sys.exit("This benchmark needs a GPU, and PyTorch finds none.  For a dry run: --device cpu")
    began, rows, left_out = time.perf_counter(), [], []
    sizes = (2_000,) if dry else SIZES
    for n in sizes:
        for dim, n_tokens in CASES:
            if n == SIZES[-1] and dim != 16:
                continue
            if time.perf_counter() - began > SECONDS:
                left_out.append([n, dim, n_tokens])
                continue
            row = compare(dim, n_tokens, n, device, 1 if dry else options.rounds)
            rows.append(row)
            medians = {name: t["median"] for name, t in row["microseconds_per_patch"].items()}
            print(
                f"{row['patches']:8} patches, d {dim}, {n_tokens:4} tokens: "
                + ", ".join(f"{name} {value:.3f}" for name, value in medians.items())
                + f" us a patch; {row['times_gemm']:.1f} x gemm; same bits: "
                + str(row["same_bits_as_the_cpu"]),
                flush=True,
            )
    if not all(row["same_bits_as_the_cpu"] for row in rows):
        sys.exit("ids or radii differ from those of the CPU: this is a fault, nothing is written.")
    if dry:
        print("A dry run on the CPU: nothing is written.")
        return
    where = {**environment(), "device": torch.cuda.get_device_name(device)}
    result = {"rounds": options.rounds, "rows": rows, "left_out": left_out}
    save("gpu", {"environment": where, **result, "auto_from": auto_from(rows)})


if __name__ == "__main__":
    main()
