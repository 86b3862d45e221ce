"""How long `patchcert --version` and `patchcert --help` take, beside an import of torch.

    python benchmarks/startup.py [--repeats 9]

Shows that they answer in less than 0.5 s, because they import no library.  The baseline is what
they would wait for otherwise: ``python -c "import torch, sklearn"``.  Each measurement is a process
of its own, from its start to its end; the four take turns, after one round that fills the disk's
cache.

Result: benchmarks/results/startup.json.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
from common import save

LIMIT = 0.5
MAIN = "import sys; from sklearn_patchcert.cli import main; main(sys.argv[1:])"
COMMANDS = {
    "patchcert --version": ["-c", MAIN, "--version"],
    "patchcert --help": ["-c", MAIN, "--help"],
    "patchcert certify --help": ["-c", MAIN, "certify", "--help"],
    "import torch, sklearn": ["-c", "import torch, sklearn"],
}


def seconds(arguments):
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            found = seconds(arguments)
            if turn:
                times[name].append(found)
    rows = {}
    for name, values in times.items():
        low, median, high = np.percentile(values, [0, 50, 100]).tolist()
        rows[name] = {"median": median, "fastest": low, "slowest": high, "values": values}
        print(f"{name}: median {median:.3f} s, {low:.3f} to {high:.3f} s")
    ours = [row["median"] for name, row in rows.items() if name.startswith("patchcert")]
    result = {
        "settings": {"repeats": repeats, "limit": LIMIT},
        "seconds": rows,
        "under_the_limit": max(ours) < LIMIT,
    }
    save("startup", result)
    assert result["under_the_limit"], "the command starts too slowly"


if __name__ == "__main__":
    main()
