"""What the benchmarks share: where results go, and on what they were made."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import binomtest
from tqdm.auto import tqdm

PUBLISHED = Path(__file__).parent / "results"
RESULTS = Path(os.environ.get("PATCHCERT_RESULTS", PUBLISHED))  # reproduce.py has its own folder
PACKAGES = ("numpy", "scikit-learn", "torch", "skorch", "sklearn-patchcert")


def environment():
    """Hardware and versions, as a dict."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line]
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": _commit(),
    }


def spread(values):
    """Mean and standard deviation over seeds, and the values."""
    values = [float(v) for v in values]
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": values}


def share(hits):
    """A share with its 95 % interval."""
    hits = np.asarray(hits, dtype=bool)
    if not len(hits):
        return {"share": None, "of": 0}
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="exact")
    return {"share": float(hits.mean()), "from": found.low, "to": found.high, "of": len(hits)}


def save(name, result):
    """Write results/<name>.json with the environment, unless it brings one, and say where."""
    path = RESULTS / f"{name}.json"
    _write(path, {"environment": environment(), **result})
    print(f"wrote {path}")


def stages(name, settings, work, run, jobs=1):
    """Yield ``key, run(*key)`` for every key of ``work``, each computed once, some at a time.

    What is done is kept in results/<name>.partial.json, so a run that was stopped goes on where it
    was; other settings start anew.
    """
    path = RESULTS / f"{name}.partial.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("settings") != settings:
        kept = {"settings": settings, "done": {}}
    labels = {" ".join(map(str, key)): key for key in work}
    left = {label: key for label, key in labels.items() if label not in kept["done"]}
    parallel = Parallel(jobs, return_as="generator_unordered")
    found = parallel(delayed(_labelled)(run, label, key) for label, key in left.items())
    for label, result in tqdm(found, total=len(left)):
        kept["done"][label] = result
        _write(path, kept)
    for label, key in labels.items():
        yield key, kept["done"][label]


def _labelled(run, label, key):
    return label, run(*key)


def _write(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(path)


def _commit():
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
