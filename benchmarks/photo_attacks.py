"""How long the search over tokens takes for an image, from 32x32 to 224x224, pixel by pixel.

    python benchmarks/photo_attacks.py [--rounds 3] [--sides 32 64 128 224]

Shows that ``run_attack(model, X, y, "flips")`` takes seconds for a photo with a token for each
value of each pixel, that its time grows no faster than the number of patches (a line
fitted in logarithms), and which share of the time the network has.  The network is an untrained
PatchConvNet whose logit of the right class has a lead that no flips make up for, so that the search
runs to its end: the longest it takes.  An easy image ends with its first success.

The baseline is how prices were computed before, in a loop over patches (a copy below), on the
smallest images; it takes turns with the prices of today.  Times are medians of rounds that take
turns, with the fastest and the slowest.  Images and weights come from seed 0.

Result: benchmarks/results/photo_attacks.json.
"""

import argparse
import time
from functools import partial

import numpy as np
from common import save

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks import flips
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.attacks.token_attack import Tokens
from sklearn_patchcert.networks import PatchConvNet

EPS, LEAD, N_TOKENS = 1.0, 1000.0, (8, 256)


class Certain(PatchConvNet):
    """A network that takes everything for the first class, with the gradients of any other."""

    def forward(self, images):
        found = super().forward(images)
        lead = found.new_zeros(found.shape[1])
        lead[0] = LEAD
        return found + lead


def model_of(side, n_tokens):
    """A pipeline, and an image (1, side, side, 3)."""
    images = np.random.default_rng(0).random((2, side, side, 3)).astype(np.float32)
    vocabulary = PatchVocabulary.from_tokens(
        np.linspace(0, 1, n_tokens)[:, None], patch_size=1, image_shape=images.shape[1:],
        per_channel="shared",
    )  # fmt: skip
    net = PatchNetClassifier(Certain, max_epochs=0, random_state=0)
    net.fit(vocabulary.transform(images), [0, 1])
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]), images[:1]


def former_costs(patches, tokens, limit):
    """Prices as they were computed, patch after patch."""
    near = np.abs(tokens - tokens.T).argsort(axis=1, kind="stable")[:, 1:65]
    costs = np.empty((*patches.shape[:2], len(tokens)))
    for p in range(patches.shape[1]):
        block = patches[:, p].astype(np.float64)
        squares = np.square(block[:, None] - tokens).sum(-1)
        own = squares.argmin(1)
        owners, owner = np.unique(own, return_inverse=True)
        between = np.linalg.norm(tokens[owners, None] - tokens, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = (squares - squares.min(1, keepdims=True)) / (2 * between[owner])
        walls[np.arange(len(own)), own] = 0
        farthest, apart = walls.copy(), np.linalg.norm(tokens[:, None] - tokens[near], axis=-1)
        i, b = np.nonzero((walls <= limit) & (walls > 0))
        ahead = squares[i, b][:, None] - squares[i[:, None], near[b]]
        farthest[i, b] = np.maximum(farthest[i, b], (ahead / (2 * apart[b])).max(1, initial=0.0))
        costs[:, p] = np.where(farthest <= limit, farthest, np.inf)
    return costs


class Watched:
    """Seconds that functions of the search take, by name."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self, function):
        def timed(*arguments, **options):
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summary(values):
    low, median, high = np.percentile(values, [0, 50, 100]).tolist()
    return {"median": median, "fastest": low, "slowest": high}


def exponent(rows, name):
    patches, times = zip(*((row["patches"], row[name]["median"]) for row in rows), strict=True)
    return float(np.polyfit(np.log(patches), np.log(times), 1)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128, 224])
    options = parser.parse_args()
    network = Watched()
    flips._gradient, flips._Search.logits = network(flips._gradient), network(flips._Search.logits)
    cases = {(n, side): model_of(side, n) for n in N_TOKENS for side in options.sides}
    found = {case: {"attack": [], "prices": [], "former": [], "network": []} for case in cases}
    for turn in range(options.rounds + 1):
        for (n, side), (model, image) in cases.items():
            times, tokens = found[n, side], Tokens(model, image)
            network.seconds = 0.0
            # The first turn compiles, and need not go far.
            steps = {} if turn else {"steps": 1, "greedy": 0}
            whole = seconds(partial(run_attack, model, image, [0], "flips", eps=EPS, **steps))
            share = network.seconds / whole
            prices = seconds(partial(tokens.offers, EPS, exact=False))
            if turn:
                times["attack"].append(whole)
                times["network"].append(share)
                times["prices"].append(prices)
            if turn and side == min(options.sides):
                table = np.linspace(0, 1, n)[:, None]
                times["former"].append(seconds(partial(former_costs, tokens.patches, table, EPS)))
    result = {"settings": {"rounds": options.rounds, "eps": EPS}, "tokens": {}}
    for n in N_TOKENS:
        rows = []
        for side in options.sides:
            row = {"side": side, "patches": 3 * side * side}
            row |= {name: summary(values) for name, values in found[n, side].items() if values}
            rows.append(row)
            print(f"{n} tokens, {side}x{side}x3: {row['attack']['median']:.2f} s, of which the "
                  f"network {100 * row['network']['median']:.0f} %, prices "
                  f"{row['prices']['median']:.3f} s", flush=True)  # fmt: skip
        ratios = np.divide(*(found[n, min(options.sides)][name] for name in ("former", "prices")))
        result["tokens"][str(n)] = {
            "rows": rows,
            "exponent": exponent(rows, "attack") if len(rows) > 1 else None,
            "exponent_of_prices": exponent(rows, "prices") if len(rows) > 1 else None,
            "former_by_new": summary(ratios),
        }
        print(n, {k: v for k, v in result["tokens"][str(n)].items() if k != "rows"})
    save("photo_attacks", result)


if __name__ == "__main__":
    main()
