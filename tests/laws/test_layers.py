"""The house: twelve wings, who may import whom, and front doors that only hand on names.

Everything is read from the sources, not from imported modules.
"""

import ast
import importlib
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sklearn_patchcert

PACKAGE = Path(sklearn_patchcert.__file__).parent
WINGS = {  # what each wing, and each file between the wings, may import besides the ground
    "cli": {
        "files",
        "pipeline",
        "displays",
        "scorers",
        "outofcore",
        "datasets",
        "networks",
        "vocabulary",
        "prediction",
        "reporting",
        "composition",
    },
    "reporting": {"pipeline", "prediction", "displays", "datasets"},
    "files": {
        "pipeline",
        "prediction",
        "networks",
        "vocabulary",
        "smoothing",
        "preprocessing",
        "datasets",
    },
    "pipeline": {"base_pipeline", "prediction", "networks", "attacks", "preprocessing"},
    "base_pipeline": {"prediction", "networks", "vocabulary", "preprocessing", "datasets"},
    "composition": {"prediction", "vocabulary", "preprocessing", "datasets"},
    "prediction": {"networks", "vocabulary", "voronoi", "preprocessing", "datasets"},
    "networks": {"attacks", "vocabulary", "voronoi"},
    "scorers": {"attacks", "smoothing"},
    "attacks": {"vocabulary", "voronoi", "preprocessing", "datasets"},
    "vocabulary": {"voronoi"},
    "smoothing": set(),
    "outofcore": {"voronoi"},
    "preprocessing": set(),
    "voronoi": set(),
    "displays": set(),
    "datasets": set(),
}
GROUND = {  # what anyone may import, and what these import of each other
    "patches": set(),
    "model_selection": set(),
    "parallel": set(),
    "_version": set(),
    "_lazy": set(),
    "whole_files": set(),
    "torch_globals": set(),
    "checks": set(),
    "_layouts": set(),
    "_ranges": set(),
    "_state": {"_version"},
    "_validation": {"_layouts", "_ranges", "patches"},
}
MAY_USE_GROUND = {"displays": {"_layouts", "model_selection"}}  # a wing that may not use all of it
TORCH_LAYER = {  # knows tensors and arrays, but no scikit-learn
    "checks",
    "patches",
    "whole_files",
    "torch_globals",
    "voronoi",
    "vocabulary.clustering",
    "vocabulary.denoising",
    "vocabulary.encoding",
    "vocabulary.exemplars",
    "vocabulary.kmeans",
    "vocabulary.losses",
    "vocabulary.prototypes",
    "vocabulary.training",
    "networks.additive",
    "networks.fast_modules",
    "networks.fitting.activations",
    "networks.fitting.adversarial_training",
    "networks.fitting.augmentation",
    "networks.fitting.flip_training",
    "networks.fitting.mask_training",
    "networks.knapsack",
    "networks.modules",
    "networks.transfer.freezing",
    "networks.transfer.heads",
    "networks.transfer.preprocessed",
    "attacks.budgets",
    "attacks.flips",
    "attacks.gradients",
    "attacks.offers",
    "attacks.perturbations",
    "attacks.stickers.contents",
    "attacks.stickers.windows",
    "attacks.views.tokenized_network",
    "prediction.configurations",
    "prediction.search",
    "prediction.masking.intervals",
    "prediction.masking.masks",
    "prediction.masking.remembered",
    "prediction.masking.rounds",
    "prediction.stickers",
    "prediction.token_costs",
    "prediction.voting",
    "smoothing.bounds",
    "files.archive",
    "files.cards",
    "files.budgets",
    "files.values",
}
HEAVY = ("matplotlib", "torchvision", "dask", "distributed", "zarr", "numba", "safetensors", "PIL",
         "jinja2")  # fmt: skip
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)
ENTRANCE = "__main__"  # hands on to the command line
ROOMS = [name for name in MODULES if name != ENTRANCE and not name.endswith("__init__")]
DOORS = [module for module in MODULES if module.endswith(".__init__")]


def tree(module):
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


@cache
def imports(module):
    """Packages of others, and names of ours as dotted paths, that a module imports anywhere."""
    outside, ours = set(), set()
    for node in ast.walk(tree(module)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "sklearn_patchcert":
                ours.add(rest)
            else:
                outside.add(head)
    return frozenset(outside), frozenset(ours)


def room_of(name):
    """The module, or the package's door, from which a dotted name of ours comes."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:count])
        if path.with_suffix(".py").exists():
            return ".".join(parts[:count])
        if path.is_dir():
            return ".".join([*parts[:count], "__init__"])
    return "__init__"


def wing_of(module):
    return module.split(".")[0]


def is_in(module, layer):
    return any(module == part or module.startswith(f"{part}.") for part in layer)


def test_every_module_has_a_place_and_there_are_twelve_wings():
    places = {wing_of(module) for module in MODULES} - {"__init__", ENTRANCE}
    assert places == set(WINGS) | set(GROUND)
    wings = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(wings) == 12
    assert imports(ENTRANCE)[1] == {"cli.commands.main"}


@pytest.mark.parametrize("module", ROOMS)
def test_a_wing_imports_only_what_lies_below_it(module):
    wing = wing_of(module)
    allowed = GROUND[wing] if wing in GROUND else {wing, *WINGS[wing], *GROUND}
    allowed = allowed & {wing, *MAY_USE_GROUND[wing]} if wing in MAY_USE_GROUND else allowed
    assert {wing_of(room_of(name)) for name in imports(module)[1]} <= allowed


@pytest.mark.parametrize("module", ROOMS)
def test_nobody_inside_goes_through_a_door(module):
    for name in imports(module)[1]:
        room = room_of(name)
        lazy = "voronoi.engines.__init__"  # compiles what it hands on when it is first asked
        assert not room.endswith("__init__") or (room == lazy and name == "voronoi.engines"), name


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_short_defines_nothing_and_says_what_its_wing_is_for(door):
    if door.count(".") > 1:
        return  # rooms of a wing
    lines = (PACKAGE / f"{door.replace('.', '/')}.py").read_text().splitlines()
    assert len(lines) <= 40
    doc, *body = tree(door).body
    assert isinstance(doc, ast.Expr)
    *handed_on, names = body
    assert all(isinstance(node, ast.ImportFrom) for node in handed_on)
    assert isinstance(names, ast.Assign)
    assert names.targets[0].id == "__all__"
    assert all(wing_of(room_of(name)) == wing_of(door) for name in imports(door)[1])
    wing = __import__(f"sklearn_patchcert.{wing_of(door)}", fromlist=["x"])
    assert sorted(wing.__all__) == sorted(name.rpartition(".")[2] for name in imports(door)[1])


def test_no_circles_and_at_most_ten_floors():
    graph = {
        module: {room_of(name) for name in imports(module)[1]} - {"voronoi.engines.__init__"}
        for module in ROOMS
    }
    list(TopologicalSorter(graph).static_order())  # raises where there is a circle
    floors: dict = {}
    for place in TopologicalSorter(WINGS).static_order():
        floors[place] = 1 + max((floors[below] for below in WINGS.get(place, ())), default=0)
    assert max(floors.values()) + 1 <= 10  # and the ground


@pytest.mark.parametrize("wing", [path.parent for path in PACKAGE.glob("*/__init__.py")],
                         ids=lambda path: path.name)  # fmt: skip
def test_no_wing_is_larger_than_one_can_hold_in_mind(wing):
    """2,300 lines, in the wing itself and in each of its rooms that has a door of its own."""
    assert sum(len(path.read_text().splitlines()) for path in wing.glob("*.py")) <= 2300


@pytest.mark.parametrize("module", ROOMS)
def test_the_torch_layer_knows_no_estimators_and_only_networks_know_skorch(module):
    outside, _ = imports(module)
    if is_in(module, TORCH_LAYER):
        assert not outside & {"sklearn", "skorch"}
    if wing_of(module) != "networks":
        assert "skorch" not in outside


@pytest.mark.parametrize("module", [m for m in ROOMS if not is_in(m, TORCH_LAYER)])
def test_the_estimator_layer_knows_no_autograd(module):
    text = (PACKAGE / f"{module.replace('.', '/')}.py").read_text()
    assert "backward(" not in text
    assert "requires_grad" not in text


def test_the_reader_of_imports_sees_them():
    outside, ours = imports("vocabulary.kmeans")
    assert outside == {"__future__", "numpy", "tqdm"}
    rooms = {"assignment", "distinct", "seeding", "sums"}
    assert {room_of(name) for name in ours} == {f"vocabulary.clustering.{room}" for room in rooms}
    assert room_of("voronoi.certify") == "voronoi.__init__"
    assert room_of("voronoi.engines.dense.largest_motion") == "voronoi.engines.dense"


def test_importing_pulls_in_nothing_that_is_not_always_needed():
    wings = ", ".join(
        f"sklearn_patchcert.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")
    )
    code = f"import sys, {wings}; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_package_hands_on_lazily_what_type_checkers_see():
    names = {
        alias.name: node.module.removeprefix("sklearn_patchcert.")
        for branch in tree("__init__").body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
    }
    assert sorted([*names, "__version__"]) == sorted(sklearn_patchcert.__all__)
    for name, room in names.items():
        assert getattr(sklearn_patchcert, name) is getattr(importlib.import_module(
            f"sklearn_patchcert.{room}"), name)  # fmt: skip
    assert set(sklearn_patchcert.__all__) | set(WINGS) <= set(dir(sklearn_patchcert))
    with pytest.raises(AttributeError, match="no_such_name"):
        sklearn_patchcert.no_such_name  # noqa: B018


def test_the_parsers_of_the_command_need_nothing_heavy():
    code = (
        "import sys; from sklearn_patchcert.cli.commands import _parser; _parser(); "
        "print([m for m in ('numpy', 'sklearn', 'torch', 'PIL', 'tqdm') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
