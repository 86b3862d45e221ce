"""Write the README's tables from benchmarks/results/*.json, or check that they agree.

    python benchmarks/report.py [--check]

A table stands between ``<!-- table:NAME -->`` and ``<!-- end -->``; nothing in it is typed.
"""

import argparse
import json
import re
import sys

from common import RESULTS

README = RESULTS.parents[1] / "README.md"


def mnist(result):
    """Accuracy and radii on MNIST beside the poster's."""
    poster, seeds = result["poster"], result["settings"]["seeds"]
    lines = [
        "| MNIST test set, standardised pixels | accuracy % | mean patch radius (L2) "
        "| sum over an image (no radius) |",
        "|---|---|---|---|",
        f"| poster, learned vocabulary | {poster['learned']['accuracy']:.2f} "
        f"| {poster['learned']['mean_radius']:.2f} | {poster['learned']['summed_radius']:.2f} |",
        f"| poster, undefended network | {poster['baseline']['accuracy']:.2f} | | |",
    ]
    names = {
        "learned": f'`strategy="learned"`, {result["settings"]["n_tokens"]} tokens',
        "kmeans": f'`strategy="kmeans"`, {result["settings"]["n_tokens"]} tokens',
        "baseline": "the same network, undefended",
    }
    for key, name in names.items():
        row = result["rows"][key]
        cells = [_cell(row.get(k)) for k in ("accuracy", "mean_radius", "summed_radius")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine = result["environment"]
    lines += [
        "",
        f"Mean ± standard deviation over {seeds} seeds, {result['settings']['epochs']} epochs; "
        f"`python benchmarks/mnist.py`, {machine['processor']}, "
        f"torch {machine['torch']}, scikit-learn {machine['scikit-learn']}.",
    ]
    return lines


TABLES = {"mnist": mnist}


def _cell(value):
    return "" if value is None else f"{value['mean']:.2f} ± {value['std']:.2f}"


def filled(text):
    """The README's text with every table made anew."""

    def table(match):
        name = match.group(1)
        result = json.loads((RESULTS / f"{name}.json").read_text())
        return "\n".join([f"<!-- table:{name} -->", *TABLES[name](result), "<!-- end -->"])

    return re.sub(r"<!-- table:(\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where the README differs")
    check = parser.parse_args().check
    text = README.read_text()
    wanted = filled(text)
    if check and wanted != text:
        sys.exit("README.md differs from benchmarks/results: run python benchmarks/report.py")
    if not check:
        README.write_text(wanted)


if __name__ == "__main__":
    main()
