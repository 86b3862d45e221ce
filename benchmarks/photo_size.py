"""Certified predictions of photographs of 32 to 224 pixels, a token for each pixel and channel.

    python benchmarks/photo_size.py [--stages costs forward limits total]

Shows that the costs of an image and its preparation take less than a second at 224 x 224 and grow
no faster than its patches; that certificates then wait for the network alone; and that time limits
for an image and for a call are kept.  The baseline, in the same run and on the same patches, is the
loop over patches that computed these costs before, on the first 3072 patches of an image.

Crops of scikit-learn's two sample photographs, tokens that are evenly spaced gray levels, an
untrained small PatchConvNet.  Seconds are of the wall clock, CPU seconds of the process; medians
and spreads are over the repeats, which go through all cases in turn.

Result: benchmarks/results/photo_size.json.
"""

import argparse
import time
from functools import cache

import numpy as np
import torch
from common import save, spread
from sklearn.datasets import load_sample_images

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.prediction.search.queues import Queue
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.voronoi import engines

SIDES, TOKENS, REPEATS, MOST = (32, 64, 128, 224), (8, 256), 5, 10_000
FORWARD = [
    *(("model", side, n, most) for side in (64, 224) for n in TOKENS for most in (300, 2000)),
    ("large_model", 224, 256, 60),
]  # network, side, tokens, assignments
LOOP = 3072  # patches that the baseline goes through


@cache
def crops(side, n=16):
    """Images (n, side, side, 3), float32 in [0, 1], from random places."""
    rng, photos = np.random.default_rng(side), load_sample_images().images
    made = []
    for i in range(n):
        photo = photos[i % len(photos)]
        top, left = (int(rng.integers(whole - side + 1)) for whole in photo.shape[:2])
        made.append(photo[top : top + side, left : left + side] / np.float32(255))
    return np.stack(made)


@cache
def model(side, n_tokens):
    """A pipeline of one token for each pixel and channel, and a small network."""
    levels = ((np.arange(n_tokens) + 0.5) / n_tokens).astype(np.float32)[:, None]
    vocabulary = PatchVocabulary.from_tokens(
        levels, patch_size=1, image_shape=(side, side, 3), per_channel="shared"
    )
    net = PatchNetClassifier(
        max_epochs=1, module__width=8, module__hidden=16, random_state=0, verbose=0
    )
    X = crops(side)
    net.fit(vocabulary.transform(X), np.arange(len(X)) % 2)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])


def timed(function):
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def loop_over_patches(patches, tokens, n_walls=8):
    """The costs (positions, n_tokens), L2, as they were computed before."""
    dim = tokens.shape[1]
    gamma, tiny = (dim + 8) * 2.0**-52, np.finfo(np.float64).tiny
    every = np.arange(len(tokens))
    sizes = engines.measure.dual_norms(tokens, np.ones(dim), every, engines.measure.L2)
    costs = np.zeros((len(patches), len(tokens)))
    for p, patch in enumerate(patches):
        squares = np.square(patch - tokens).sum(1)[None]
        ranks = np.argpartition(squares, n_walls - 1, axis=1)[:, :n_walls]
        own = squares.argmin(1)
        for rank in range(n_walls + 1):
            near = own if rank == 0 else ranks[:, rank - 1]
            some, rows = np.unique(near, return_inverse=True)
            size = sizes[some][rows]
            nearest = np.take_along_axis(squares, near[:, None], 1)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                move = np.abs(squares - nearest) / (2 * size)
                left = squares - nearest - 4 * gamma * (squares + nearest + move**2)
                left -= 8 * dim * tiny
                found = left / (2 * size) * (1 - 4 * gamma)
            found = np.where(size <= 2 * dim * tiny, np.inf if rank == 0 else 0, found)
            costs[p] = np.fmax(costs[p], found[0])
        costs[p, own] = 0
    return costs


def costs():
    """Time from an image to the queue of its assignments; the baseline beside it."""
    cases = [(side, n_tokens) for side in SIDES for n_tokens in TOKENS]
    found = {case: {"engine": [], "loop": []} for case in cases}
    for repeat in range(-1, REPEATS):  # the first one compiles
        for side, n_tokens in cases:
            pipeline = model(side, n_tokens)
            image = crops(side)[repeat : repeat + 1] if repeat >= 0 else crops(side)[:1]

            def prepare(pipeline=pipeline, image=image):
                prices = TokenCosts(image, pipeline["vocab"], {}, "l2")
                queue = Queue(prices.cheapest(0, MOST), "l2", MOST)
                queue.take(0, 1)
                return prices

            prices, engine = timed(prepare)
            if repeat < 0:
                continue
            found[side, n_tokens]["engine"].append(engine)
            patches = prices.patches[0, :LOOP].astype(np.float64)
            tokens = pipeline["vocab"].vocabulary_.astype(np.float64)
            if repeat < 2:
                plain, loop = timed(lambda p=patches, t=tokens: loop_over_patches(p, t))
                found[side, n_tokens]["loop"].append(loop)
                table = TokenCosts(image[:, :32, :32], model(32, n_tokens)["vocab"], {}, "l2")
                if side == 32:
                    np.testing.assert_array_equal(plain, table.walls()[0])
    rows = []
    for (side, n_tokens), row in found.items():
        count = 3 * side**2
        rows.append(
            {
                "side": side,
                "tokens": n_tokens,
                "patches": count,
                "seconds": spread([r["seconds"] for r in row["engine"]]),
                "cpu_seconds": spread([r["cpu_seconds"] for r in row["engine"]]),
                "loop_seconds_per_patch": spread([r["seconds"] / LOOP for r in row["loop"]]),
            }
        )
    exponents = {}
    for n_tokens in TOKENS:
        some = [row for row in rows if row["tokens"] == n_tokens]
        patches = np.log([row["patches"] for row in some])
        slopes = [
            np.polyfit(patches, np.log([row["cpu_seconds"]["values"][r] for row in some]), 1)[0]
            for r in range(REPEATS)
        ]
        exponents[str(n_tokens)] = spread(slopes)
    return {"rows": rows, "exponents": exponents}


class Forward:
    """Seconds that a module spends in its forward passes."""

    def __init__(self, module):
        self.seconds, self.passes = 0.0, 0
        self.hooks = [
            module.register_forward_pre_hook(self.begin),
            module.register_forward_hook(self.end),
        ]

    def begin(self, *_):
        self.begun = time.perf_counter()

    def end(self, module, inputs, outputs):
        self.seconds += time.perf_counter() - self.begun
        self.passes += len(outputs[0] if isinstance(outputs, tuple) else outputs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


class Blocks(torch.nn.Module):
    """Convolutions in the layout of ResNet-18, untrained: a network of a realistic size."""

    def __init__(self, n_outputs):
        super().__init__()
        layers = [self.block(3, 64, 7, 2), torch.nn.MaxPool2d(3, 2, 1)]
        for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
            layers += [self.block(inputs, outputs, 3, 1 + (inputs != outputs))]
            layers += [self.block(outputs, outputs, 3, 1) for _ in range(3)]
        pool = torch.nn.AdaptiveAvgPool2d(1)
        head = torch.nn.Linear(512, n_outputs)
        self.layers = torch.nn.Sequential(*layers, pool, torch.nn.Flatten(), head)

    def block(self, inputs, outputs, size, stride):
        convolution = torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())

    def forward(self, images):
        return self.layers(images)


@cache
def large_model(side, n_tokens):
    """As :func:`model`, with a network of tens of milliseconds a pass."""
    vocabulary, X = model(side, n_tokens)["vocab"], crops(side)[:2]
    net = PatchNetClassifier(Blocks, max_epochs=0, random_state=0)
    net.fit(vocabulary.transform(X), [0, 1])
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])


def forward():
    """Part of a certificate's time that the network's forward passes take."""
    rows = []
    for make, side, n_tokens, most in FORWARD:
        pipeline, shares, rates, passes = globals()[make](side, n_tokens), [], [], []
        pipeline.certify_prediction(crops(side)[:1], max_configurations=2)
        for repeat in range(3):
            with Forward(pipeline["clf"].module_) as network:
                image = crops(side)[repeat : repeat + 1]
                _, took = timed(
                    lambda p=pipeline, i=image, m=most: p.certify_prediction(
                        i, max_configurations=m
                    )
                )
            shares.append(100 * network.seconds / took["seconds"])
            rates.append(network.passes / took["seconds"])
            passes.append(1e3 * network.seconds / network.passes)
        rows.append(
            {"network": make, "side": side, "tokens": n_tokens, "assignments": most,
             "percent": spread(shares), "images_per_second": spread(rates),
             "milliseconds_per_pass": spread(passes)}
        )  # fmt: skip
    return {"rows": rows}


def limited(side, n_tokens, n, **limits):
    pipeline = model(side, n_tokens)
    pipeline.certify_prediction(crops(side)[:1], max_configurations=2)
    found, took = timed(
        lambda: pipeline.certify_prediction(crops(side)[:n], max_configurations=10**6, **limits)
    )
    return {
        "side": side,
        "tokens": n_tokens,
        "images": n,
        **limits,
        **took,
        "classified": spread(found.n_configurations),
        "stopped": int(found.limited.sum()),
        "exact": int(found.exact.sum()),
        "smallest_classified": int(found.n_configurations.min()),
    }


def limits():
    """Whether the time of an image is kept."""
    cases = [(32, 8, 4, 2.0), (64, 256, 2, 4.0), (224, 256, 1, 10.0), (224, 8, 2, 5.0)]
    return {"rows": [limited(*case, max_seconds=seconds) for *case, seconds in cases]}


def total():
    """Whether the time of a call is kept, and shared."""
    return {"rows": [limited(224, 256, 16, max_total_seconds=60.0)]}


# A stage is a function without arguments that returns a dict.  Add one here.
STAGES = {"costs": costs, "forward": forward, "limits": limits, "total": total}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 if others compute, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    results = {}
    for name in options.stages:
        results[name], took = timed(STAGES[name])
        print(name, f"{took['seconds']:.1f} s", results[name])
    if set(options.stages) == set(STAGES):
        save("photo_size", {"settings": {"most": MOST, "repeats": REPEATS}, "stages": results})


if __name__ == "__main__":
    main()
