"""How long `from sklearn_patchcert import *` takes beyond torch and scikit-learn.

    python benchmarks/imports.py [--repeats 9]

Shows that it is less than 0.3 s.  Each measurement is a process of its own: one in which all
modules of torch and scikit-learn that the library uses are loaded already ("ours"), and one in
which only the two packages' own `import` has been done ("with their parts").  CPU seconds are what
a busy machine does not distort; wall seconds are there beside them.

Result: benchmarks/results/imports.json.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from common import save

LIMIT = 0.3
HEAVY = ("matplotlib", "torchvision", "dask", "distributed", "zarr", "numba")
LIST = """
import json, sys
from sklearn_patchcert import *
print(json.dumps(sorted(sys.modules)))
"""
MEASURE = """
import importlib, json, sys, time
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
start = time.perf_counter(), time.process_time()
from sklearn_patchcert import *
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def run(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    loaded = json.loads(run(LIST))
    parts = [name for name in loaded if name.split(".")[0] in ("torch", "sklearn")]
    before = {"ours": ["torch", "sklearn", *parts], "with their parts": ["torch", "sklearn"]}
    times = {name: [] for name in before}
    for _ in range(repeats):
        for name, modules in before.items():
            times[name].append([float(t) for t in run(MEASURE, json.dumps(modules)).split()])
    rows = {
        name: {"wall": np.median(found, axis=0)[0], "cpu": np.median(found, axis=0)[1]}
        for name, found in times.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['cpu']:.3f} s of CPU, {row['wall']:.3f} s")
    result = {
        "settings": {"repeats": repeats, "limit": LIMIT},
        "seconds": rows,
        "under_the_limit": bool(rows["ours"]["cpu"] < LIMIT),
        "pulled_in": [name for name in HEAVY if name in loaded],
    }
    save("imports", result)
    assert result["under_the_limit"], "the import takes too long"
    assert not result["pulled_in"], "the import pulls in what is not always needed"


if __name__ == "__main__":
    main()
