"""Imports go one way: the table of rooms, read from the sources, not from the imported modules."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_patchcert

PACKAGE = Path(sklearn_patchcert.__file__).parent
ROOMS = {  # module: what it may import of ours
    "_version": set(),
    "patches": set(),
    "voronoi_cells": {"engines"},
    "voronoi": {"voronoi_cells"},
    "surrogates": set(),
    "losses": {"surrogates"},
    "networks": set(),
    "fast_networks": {"networks"},
    "torch_globals": set(),
    "_validation": {"_version", "patches"},
    "kmeans": {"voronoi"},
    "exemplars": {"kmeans", "voronoi"},
    "denoising": set(),
    "prototypes": {"kmeans", "surrogates"},
    "training": {"exemplars", "kmeans", "losses", "prototypes", "surrogates", "voronoi"},
    "encoding": {"patches", "voronoi"},
    "parallel": set(),
    "tokenizer": {"_validation", "encoding", "kmeans", "parallel", "patches", "voronoi"},
    "vocabulary_options": {"_validation"},
    "vocabulary": {
        "_validation",
        "denoising",
        "encoding",
        "patches",
        "tokenizer",
        "torch_globals",
        "training",
        "vocabulary_options",
    },
    "preprocessing": {"_validation"},
    "loops": set(),
    "flip_training": {"encoding", "flips", "surrogates", "voronoi"},
    "additive": {"engines"},
    "adversarial_training": {"attacks", "surrogates", "tokenised"},
    "disturbance": {
        "_validation",
        "additive",
        "adversarial_training",
        "flip_training",
        "patches",
        "surrogates",
    },
    "net_parameters": {"_validation"},
    "nets": {"_validation", "disturbance", "loops", "net_parameters", "networks"},
    "classifier": {"_validation", "nets"},
    "tokenised": {"checks", "encoding", "surrogates"},
    "torch_modules": {"evaluated", "preprocessing", "tokenised", "tokenizer"},
    "prediction": {"engines", "voronoi"},
    "stickers": set(),
    "token_costs": {"cell_steps", "encoding", "patches", "prediction", "voronoi"},
    "fingerprints": {"nets"},
    "estimator_tree": {"_validation", "preprocessing"},
    "net_scores": {"classifier"},
    "score_errors": {"estimator_tree", "net_scores"},
    "answers": {"estimator_tree", "net_scores", "score_errors"},
    "consistency": {"estimator_tree", "net_scores"},
    "image_certificates": {
        "additive",
        "answers",
        "consistency",
        "disturbance",
        "encoding",
        "estimator_tree",
        "fingerprints",
        "net_scores",
        "parallel",
        "prediction",
        "stickers",
        "token_costs",
    },
    "pipeline": {
        "_validation",
        "classifier",
        "disturbance",
        "image_certificates",
        "preprocessing",
        "torch_modules",
        "vocabulary",
    },
    "smoothing": set(),
    "smoothed": {"_validation", "parallel", "smoothing"},
    "checks": set(),
    "perturbations": {"checks"},
    "attacks": {"checks", "perturbations"},
    "cell_steps": {"engines", "voronoi"},
    "flips": {"checks", "perturbations"},
    "settled": set(),
    "evaluated": {"_validation", "checks"},
    "token_attack": {
        "cell_steps",
        "encoding",
        "flips",
        "patches",
        "surrogates",
        "tokenised",
        "torch_modules",
    },
    "attack_views": {"evaluated", "tokenised", "torch_modules"},
    "attack_runs": {
        "attack_views",
        "attacks",
        "checks",
        "evaluated",
        "settled",
        "token_attack",
        "tokenised",
    },
    "robustness": {"attack_runs", "attack_views", "evaluated", "settled", "token_attack"},
    "archive": set(),
    "values": set(),
    "net_states": {"_validation", "disturbance", "loops", "torch_globals"},
    "fitted_checks": {"classifier", "networks", "patches", "tokenizer", "vocabulary"},
    "known_classes": {
        "classifier",
        "committee",
        "denoising",
        "fast_networks",
        "fitted_checks",
        "flip_training",
        "net_states",
        "networks",
        "pipeline",
        "preprocessing",
        "smoothed",
        "vocabulary",
    },
    "descriptions": {"_validation", "archive", "known_classes", "values"},
    "persistence": {"_version", "archive", "descriptions"},
    "image_files": {"archive"},
    "cli": {"_version", "archive", "image_files", "persistence"},
    "stores": set(),
    "outofcore": {"_version", "stores", "voronoi"},
    "datasets": set(),
    "model_selection": set(),
    "plotting": set(),
    "vocabulary_display": {"plotting"},
    "curves": {"model_selection"},
    "voting": set(),
    "committee": {"voting"},
    "certified_scorers": {"checks", "evaluated"},
    "scorers": {"certified_scorers", "checks", "evaluated", "robustness", "smoothed"},
    "reports": {"checks", "evaluated", "robustness", "smoothed"},
}
ENGINES = {  # the same for sklearn_patchcert.engines, which knows nothing outside itself
    "cells": {"measure"},
    "dense": set(),
    "enumeration": set(),
    "knapsack": set(),
    "lanes": set(),
    "measure": set(),
    "pairs": {"lanes"},
    "small": {"lanes", "measure", "pairs"},
    "tree": {"lanes", "measure"},
    "walk": {"dense", "measure", "small", "tree"},
}
TORCH_LAYER = {
    "patches", "voronoi", "voronoi_cells", "surrogates", "losses", "networks", "fast_networks",
    "kmeans", "exemplars", "denoising", "prototypes", "training", "encoding", "smoothing",
    "attacks", "cell_steps", "checks", "flips", "perturbations", "flip_training", "tokenised",
    "prediction", "settled", "stickers", "token_costs", "voting", "additive",
    "adversarial_training", "archive", "values",
}  # fmt: skip


def imports(module):
    """Top-level names and modules of ours that a source file imports, anywhere in it."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    outside, ours = set(), set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module]
            if node.module == "sklearn_patchcert":
                names = [f"sklearn_patchcert.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "sklearn_patchcert":
                ours.add(rest.split(".")[0])
            else:
                outside.add(head)
    return outside, ours


def test_every_module_has_a_room():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set(ROOMS)


@pytest.mark.parametrize("module", ROOMS)
def test_imports_go_one_way(module):
    outside, ours = imports(module)
    assert ours <= ROOMS[module]
    if module in TORCH_LAYER:
        assert not outside & {"sklearn", "skorch"}
    if module not in ("classifier", "loops", "net_parameters", "net_scores", "nets"):
        assert "skorch" not in outside


@pytest.mark.parametrize("module", sorted(set(ROOMS) - TORCH_LAYER))
def test_the_estimator_layer_knows_no_autograd(module):
    text = (PACKAGE / f"{module}.py").read_text()
    assert "backward(" not in text
    assert "requires_grad" not in text


def test_engines_know_nothing_outside():
    modules = {path.stem for path in (PACKAGE / "engines").glob("*.py")} - {"__init__"}
    assert modules == set(ENGINES)
    for module, allowed in ENGINES.items():
        outside, ours = imports(f"engines/{module}")
        assert ours <= {"engines"}
        assert not outside & {"sklearn", "skorch"}
        names = re.findall(
            r"from sklearn_patchcert\.engines(?:\.(\w+) import| import ([\w, ]+))",
            (PACKAGE / "engines" / f"{module}.py").read_text(),
        )
        used = {name.strip() for one, several in names for name in (one or several).split(",")}
        assert used <= allowed, module


def test_the_reader_of_imports_sees_them():
    assert imports("kmeans") == ({"__future__", "numpy", "torch", "tqdm"}, {"voronoi"})


def test_importing_pulls_in_nothing_that_is_not_always_needed():
    heavy = ("matplotlib", "torchvision", "dask", "distributed", "zarr", "numba", "safetensors")
    code = (
        "import sys, sklearn_patchcert, sklearn_patchcert.datasets, sklearn_patchcert.scorers; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
