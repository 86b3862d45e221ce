"""What it saves on a CPU to choose the token changes of training images by a compiled loop.

    python benchmarks/flip_choice.py [--repeats 7] [--images 128] [--threads 1]

Shows the time in which the most harmful changes of tokens that an L2 budget pays for are chosen,
out of 64 offers for each patch at most, and as the baseline the time of the same choice by
operations on whole tensors, which GPUs use.  The two take turns.  A ratio is the median of those of
the turns, between the quartiles.  Patches, tokens and gradients are drawn at random, the last with
long tails; the numbers of patches and tokens are those of rows of the tables of the poster.

Result: benchmarks/results/flip_choice.json.
"""

import argparse
import time

import numpy as np
import torch
from common import save

from sklearn_patchcert.attacks.offers import buying
from sklearn_patchcert.networks.fitting.flip_training import _Offers, nearest_tokens
from sklearn_patchcert.voronoi import surrogates

CASES = {  # positions, pixels of a patch and tokens of each channel; the budget
    "MNIST, 18 tokens of 4x4 pixels": ([(49, 16, 18)], 2.0),
    "MNIST, 2 tokens of single pixels": ([(784, 1, 2)], 5.0),
    "CIFAR-10, (8,000, 2, 2) tokens of 2x3 pixels": ([(176, 6, n) for n in (8000, 2, 2)], 0.6),
    "CIFAR-10, (2, 256, 2) tokens of single pixels": ([(1024, 1, n) for n in (2, 256, 2)], 0.6),
}


def offered(images, positions, dim, n_tokens):
    """Gains and squared costs (n, positions, k) of changes of random patches."""
    tokens, patches = torch.randn(n_tokens, dim), torch.randn(images, positions, dim)
    own = surrogates.nearest(patches, tokens)
    offers = _Offers(tokens, patches, own, nearest_tokens(tokens)[0])
    gains = offers.dots(torch.randn_like(patches) * torch.rand(images, positions, 1) ** 4)
    return gains - gains[..., :1], offers.prices


def compared(groups, radius, options):
    """Medians of both, the quartiles of their ratio, and by which factor their gains differ."""
    torch.manual_seed(0)
    gains, prices = zip(*(offered(options.images, *group) for group in groups), strict=True)
    turns, found = [], {}
    for _ in range(options.repeats + 1):
        turn = []
        for choose in (buying.looped, buying.exchanged):
            start = time.perf_counter()
            found[choose] = choose(gains, prices, radius**2)
            turn.append(time.perf_counter() - start)
        turns.append(turn)
    times = np.array(turns[1:])  # the first compiles
    low, ratio, high = np.percentile(times[:, 0] / times[:, 1], [25, 50, 75]).tolist()
    loop, whole = (
        float(sum(g.gather(-1, ids[..., None]).sum() for g, ids in zip(gains, chosen, strict=True)))
        for chosen in found.values()
    )
    seconds = np.median(times, axis=0).tolist()
    return {"ratio": ratio, "from": low, "to": high, "loop": seconds[0], "whole": seconds[1],
            "gain": loop / whole}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = {}
    for name, case in CASES.items():
        row = rows[name] = compared(*case, options)
        print(f"{name:50}{row['ratio']:6.3f} ({row['from']:.3f} to {row['to']:.3f})"
              f"{row['loop']:8.3f} s, gain {row['gain']:.4f}")  # fmt: skip
    save("flip_choice", {"settings": vars(options), "seed": 0, "rows": rows})


if __name__ == "__main__":
    main()
