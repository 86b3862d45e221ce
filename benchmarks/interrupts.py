"""Seconds from Ctrl-C to the end of a call, on photographs of 224 x 224 pixels.

    python benchmarks/interrupts.py [--repeats 5]

Shows how soon certificates, certified predictions, attacks and k-means at photo size stop.  Images,
tokens and networks are those of photo_size.py; the signal comes at a random time after the first
second of a call.

Result: benchmarks/results/interrupts.json.
"""

import argparse
import os
import signal
import threading
import time

import numpy as np
import torch
from common import save, spread
from photo_size import crops, large_model, model

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.attacks import run_attack

SIDE, TOKENS = 224, 256
MANY = {"max_configurations": 10**6}


def calls():
    """Calls that last longer than any signal needs, by name."""
    X, small, large = crops(SIDE), model(SIDE, TOKENS), large_model(SIDE, TOKENS)
    many, labels = np.concatenate([X] * 40), small.predict(X)
    fitted = PatchVocabulary(4096, 4, strategy="kmeans", max_iter=100, random_state=0)
    return {
        "certify_prediction": lambda: small.certify_prediction(X, **MANY),
        "certify_prediction, larger network": lambda: large.certify_prediction(X, **MANY),
        "run_attack, flips": lambda: run_attack(small, X, labels, "flips", eps=0.5),
        "certify, 640 images": lambda: small.certify(many),
        "fit, k-means of 4,096 tokens": lambda: fitted.fit(many),
    }


def stopped(call, after):
    """Seconds from the signal to KeyboardInterrupt; None if the call ended before."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, send)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    timer.cancel()
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, rows = np.random.default_rng(0), []
    for name, call in calls().items():
        stopped(call, 8.0)  # compiles
        found = [stopped(call, float(rng.uniform(1, 3))) for _ in range(options.repeats)]
        seconds = [value for value in found if value is not None]
        rows.append({"call": name, "ended_before": found.count(None), "seconds": spread(seconds)})
        print(rows[-1], flush=True)
    save("interrupts", {"settings": {"repeats": options.repeats}, "rows": rows})


if __name__ == "__main__":
    main()
