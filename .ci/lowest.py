"""The lowest versions that pyproject.toml names for users, as constraints for pip.

``python .ci/lowest.py > lowest.txt && PIP_CONSTRAINT=lowest.txt PYTEST_ADDOPTS="-W default" bash
.ci/run`` runs everything with them, on the oldest Python.  Old versions beside new ones warn of one
another, so warnings are no errors there.
"""

import re
from pathlib import Path

FOR_USERS = ("dependencies", "plot", "denoise", "dask", "zarr")  # not what builds, tests or lints


def lowest(text):
    """Lines ``name==version`` for the lists that are for users."""
    found = {}
    for name, block in re.findall(r"^([\w-]+) = \[(.*?)\]\s*$", text, re.M | re.S):
        if name in FOR_USERS:
            for package, version in re.findall(r'"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)', block):
                found[package] = version
    return [f"{package}=={version}" for package, version in found.items()]


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(lowest(text)))
