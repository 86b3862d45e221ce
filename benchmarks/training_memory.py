"""Memory and time of training the default network on large pictures.

    python benchmarks/training_memory.py [--repeats 3]

Shows that a fit at the defaults on 224 x 224 color pictures stays below 2 GiB, since the first
convolution has a stride on large pictures.  The baseline is the network with `module__stride=1`.
Each measurement is a process of its own; the peak is that of the whole process, torch and images
included.  The pictures are random: what they show matters for neither figure.

Result: benchmarks/results/training_memory.json.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from common import save

LIMIT = 2.0
CASES = {  # name: side of the pictures, how many, options
    "64 pixels, 256 pictures": (64, 256, {}),
    "224 pixels, 60 pictures": (224, 60, {}),
    "224 pixels, 60 pictures, stride 1": (224, 60, {"module__stride": 1}),
    "224 pixels, 256 pictures": (224, 256, {}),
}
MEASURE = """
import json, resource, sys, time
import numpy as np
from sklearn_patchcert import PatchNetClassifier
side, n, options = json.loads(sys.argv[1])
X = np.random.default_rng(0).random((n, side, side, 3), dtype=np.float32)
start = time.perf_counter()
PatchNetClassifier(max_epochs=1, random_state=0, **options).fit(X, np.arange(n) % 3)
spent = time.perf_counter() - start
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, spent]))
"""


def measured(case):
    command = [sys.executable, "-c", MEASURE, json.dumps(case)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    found = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, case in CASES.items():
            found[name].append(measured(case))
    rows = {}
    for name, values in found.items():
        peaks, seconds = np.transpose(values)
        rows[name] = {
            "peak_gib": float(peaks.max()),
            "seconds": float(np.median(seconds)),
            "seconds_from_to": [float(seconds.min()), float(seconds.max())],
        }
        print(f"{name}: at most {rows[name]['peak_gib']:.2f} GiB, {rows[name]['seconds']:.1f} s")
    below = all(row["peak_gib"] < LIMIT for name, row in rows.items() if "stride 1" not in name)
    save(
        "training_memory",
        {"settings": {"repeats": repeats, "limit_gib": LIMIT}, "rows": rows, "below": below},
    )
    assert below, "training takes too much memory"


if __name__ == "__main__":
    main()
