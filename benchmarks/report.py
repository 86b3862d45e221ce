"""Write the tables of README.md and docs/ from benchmarks/results/*.json, or check that they agree.

    python benchmarks/report.py [--check]

A table lies between ``<!-- table:NAME -->`` and ``<!-- end -->`` in Markdown, and between
``.. begin NAME`` and ``.. end NAME`` in reStructuredText.  A function of the same name makes it
from the result of that name; ``NAME:DATA`` picks one data set of a result.  Nothing in a table is
typed by hand.
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

import tables_methods
import tables_models
import tables_photos
import tables_pretrained
import tables_speed
import tables_stickers
import tables_vocabularies
from common import RESULTS

ROOT = Path(__file__).parents[1]
TABLES = (
    tables_methods, tables_models, tables_photos, tables_pretrained, tables_speed,
    tables_stickers, tables_vocabularies,
)  # fmt: skip
SOURCES = {
    "headline": ("poster_mnist", "poster_cifar10", "whole_image", "soundness"),
    "methods": ("poster_mnist", "poster_cifar10", "whole_image", "stickers"),
    "sticker_masks": ("stickers",),
}
MARKERS = (
    (r"<!-- table:([\w:]+) -->", "<!-- end -->"),
    (r"\.\. begin ([\w:]+)", r"\.\. end \2"),
)


def pages():
    """README.md and all pages of the documentation that are written by hand."""
    folders = ("_build", "auto_examples", "generated")
    found = sorted((ROOT / "docs").rglob("*.rst"))
    return [ROOT / "README.md", *(p for p in found if not set(folders) & set(p.parts))]


def made(name, folder=RESULTS):
    """The (header, rows, note) of a table, maybe with a lead; None without a result."""
    source, _, data = name.partition(":")
    paths = [folder / f"{path}.json" for path in SOURCES.get(source, (source,))]
    if not all(path.exists() for path in paths):
        return None
    kind = source.split("_")[0]  # one function for all data sets
    function = kind if kind in ("poster", "choices") else source
    module = next(module for module in TABLES if hasattr(module, function))
    results = [json.loads(path.read_text()) for path in paths]
    found = getattr(module, function)(*results, *([data] if data else []))
    if found is None or len(results) > 1:  # several results have notes of their own
        return found
    header, rows, note, *lead = found
    return header, rows, f"{note} {provenance(results[0], data, note)}".rstrip(), *lead


def provenance(result, data, note):
    """Commits of a table's measurements, and hardware that the note does not name."""
    part = result.get("data", result.get("rows", {}))
    part = part.get(data, result) if isinstance(part, dict) else result
    places = [*environments(part)]
    rows = part.get("rows", part) if isinstance(part, dict) else part
    rows = [row for row in (rows.values() if isinstance(rows, dict) else rows) if row]
    each = "environment" in part or all("environment" in row for row in rows)
    if not places or not each:
        places.append(result["environment"])
    machines = dict.fromkeys(place["gpu"] or place["processor"] for place in places)
    commits = dict.fromkeys(place["commit"] for place in places if place["commit"])
    missing = [machine for machine in machines if machine not in note]
    text = f"Measured on {', '.join(missing)}. " if missing else ""
    if not commits:  # measured on files that were not in a repository
        return text.rstrip()
    plural = "s" if len(commits) > 1 else ""
    return f"{text}Commit{plural} {', '.join(f'`{commit}`' for commit in commits)}."


def environments(part):
    """All environment blocks within a result."""
    if isinstance(part, dict):
        if "commit" in part:
            yield part
        part = part.values()
    if not isinstance(part, str) and hasattr(part, "__iter__"):
        for inner in part:
            yield from environments(inner)


def markdown(header, rows, note, lead=""):
    """Lines of a lead, a table and its note in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
    return [*([lead, ""] if lead else ()), *([*lines, ""] if header else ()), note]


def restructured(header, rows, note, lead=""):
    """Lines of a lead, a table and its note in reStructuredText."""
    table = [[_in_rst(cell) for cell in row] for row in (header, *rows)]
    widths = [max(1, *map(len, column)) for column in zip(*table, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    body = [rule, lines[0], rule, *lines[1:], rule, ""] if header else []
    return ["", *_wrapped(lead), *body, *_wrapped(note)]


def _wrapped(text):
    return [*textwrap.wrap(_in_rst(text), 98, break_on_hyphens=False), ""] if text else []


def _in_rst(text):
    """Code and links of Markdown in reStructuredText, without breaks beside a ±."""
    text = text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    return re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)


def filled(text):
    """The text of a page with every table made again."""

    def table(match):
        begin, name, end = match.groups()
        found = made(name)
        render = markdown if begin.startswith("<") else restructured
        return "\n".join([begin, *(render(*found) if found else [""]), end])

    for begin, end in MARKERS:
        text = re.sub(rf"({begin})\n.*?({end})", table, text, flags=re.DOTALL)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a page differs")
    check = parser.parse_args().check
    for page in pages():
        text = page.read_text()
        wanted = filled(text)
        if check and wanted != text:
            sys.exit(f"{page} differs from benchmarks/results: run python benchmarks/report.py")
        if wanted != text:
            page.write_text(wanted)


if __name__ == "__main__":
    main()
