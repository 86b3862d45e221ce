"""A vocabulary of all patches of MNIST: time, memory, and the same from batches.

    python benchmarks/scale.py [--tokens 512]

Shows that 512 tokens are fitted on the 2.9 million 4x4 patches of MNIST's training images in
minutes, and that `partial_fit` over batches of 2000 images, the baseline of bounded memory, reaches
nearly the same error.  Errors are mean squared L2 errors of a patch on the test images,
standardised; memory is the peak above the images.

Result: benchmarks/results/scale.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from common import save, stages

from sklearn_patchcert import ChannelStandardizer, PatchVocabulary
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.scorers import neg_reconstruction_error


def measure(strategy, how, n_tokens):
    images = load_images("mnist")
    scaler = ChannelStandardizer().fit(images.X_train)
    X = scaler.transform(images.X_train).astype(np.float32)
    held = scaler.transform(images.X_test).astype(np.float32)
    vocabulary = PatchVocabulary(n_tokens, 4, strategy=strategy, subsample=None, random_state=0)
    vocabulary.fit(X[:500])  # so that everything is compiled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if how == "fit":
        vocabulary.fit(X)
    else:
        vocabulary = PatchVocabulary(n_tokens, 4, strategy=strategy, random_state=0)
        for _ in range(2):
            for at in range(0, len(X), 2000):
                vocabulary.partial_fit(X[at : at + 2000])
    seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    error = -neg_reconstruction_error(vocabulary, held)
    return {"seconds": seconds, "megabytes": memory, "error": error}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--case", nargs=2, help="used by the script itself")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case, options.tokens)))
        return

    def run(*case):  # in a process of its own, for its peak of memory
        command = [sys.executable, __file__, "--tokens", str(options.tokens), "--case", *case]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(found.stdout.splitlines()[-1])

    settings = {"tokens": options.tokens}
    work = [(s, how) for s in ("kmeans", "learned") for how in ("fit", "partial_fit")]
    rows = {}
    for (strategy, how), found in stages("scale", settings, work, run):
        rows.setdefault(strategy, {})[how] = found
        print(strategy, how, found)
    save("scale", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
