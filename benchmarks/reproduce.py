"""Measure the tables of docs/results.rst again, and say which figures agree with the published.

    python benchmarks/reproduce.py --quick [--only NAME ...]   # reduced, minutes a table
    python benchmarks/reproduce.py [--only NAME ...]           # in full, many hours
    python benchmarks/reproduce.py --list                      # tables, commands and hours

The published figures, in benchmarks/results, stay as they are.  A reduced version shares some
figures with the full one, such as the radii of a vocabulary, which do not depend on a network, and
counts of what a proof excludes.  They must agree within a tolerance that is shown with its reason.
Accuracies of networks that are trained less must lie in a stated band, or have the same order.
Other figures are shown as not comparable, and some tables are left out; the summary says why.
The exit status is 1 if a figure differs or a table fails.

In full, the commands write to benchmarks/reproduced and continue there after an interruption.  The
tables that `report.py` makes of both folders are then compared cell by cell.

Result: benchmarks/results/reproduced.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections import Counter
from pathlib import Path

from agreement import AGREES, DIFFERS, NOT_COMPARABLE, cells
from common import PUBLISHED, environment, save

LEFT_OUT = {
    "methods": "its figures are those of the tables below it",
    "headline": "its figures are those of poster_mnist, poster_cifar10, whole_image and soundness",
    "sticker_masks:mnist": "its masks are checked with stickers:mnist, its networks take an hour",
    "sticker_masks:fashion_mnist": "as sticker_masks:mnist",
    "stickers:cifar10": "a network takes a quarter of an hour, and its certificates as long",
    "sticker_masks:cifar10": "as stickers:cifar10",
    "sticker_attacks:mnist": "an attack needs the networks of stickers:mnist, and ten minutes",
    "sticker_attacks:fashion_mnist": "as sticker_attacks:mnist",
    "sticker_attacks:cifar10": "as sticker_attacks:mnist",
    "kmeans": "10 million patches take ten minutes and some gigabytes",
    "distilled": "students take hours, and photographs are needed that are not part of a package",
    "transfer": "one epoch takes an hour; the radii are those of poster_cifar10, learned",
}
FULL = {  # name: hours on two cores (estimates), commands, tables
    "mnist": (0.5, ["mnist.py"], ["mnist"]),
    "poster_mnist": (
        8, ["poster_tables.py --dataset mnist --seeds 3 --images 500 --one-step 2500 "
            "--smoothed 100 --noise"], ["poster_mnist"]),
    "poster_fashion_mnist": (
        3, ["poster_tables.py --dataset fashion_mnist --seeds 1 --images 500 --one-step 2500 "
            "--smoothed 100 --noise"], ["poster_fashion_mnist"]),
    "poster_cifar10": (
        100, ["poster_tables.py --dataset cifar10 --seeds 3 --images 200 --one-step 1000 "
              "--smoothed 50 --noise"], ["poster_cifar10"]),
    "whole_image": (
        5, ["whole_image.py --data mnist fashion_mnist cifar10",
            "whole_image.py --data cifar10 --images 500"],
        ["whole_image:mnist", "whole_image:fashion_mnist", "whole_image:cifar10"]),
    "stickers": (
        6, ["stickers.py"],
        [f"{table}:{data}" for data in ("mnist", "fashion_mnist", "cifar10")
         for table in ("stickers", "sticker_masks")]),
    "sticker_attacks": (
        1, ["sticker_attacks.py"],
        [f"sticker_attacks:{data}" for data in ("mnist", "fashion_mnist", "cifar10")]),
    "kmeans": (0.5, ["kmeans.py --whole"], ["kmeans"]),
    "attacks": (0.5, ["attacks.py"], ["attacks"]),
    "others": (1, ["others.py --images 200"], ["others"]),
    "pareto": (3, ["pareto.py"], ["pareto:mnist", "pareto:cifar10"]),
    "ablations": (1, ["ablations.py"], ["ablations:mnist", "ablations:cifar10"]),
    "pretrained": (0.5, ["pretrained.py"], ["pretrained"]),
    "distilled": (3, ["distilled.py"], ["distilled"]),
    "transfer": (1, ["transfer.py --epochs 1"], ["transfer"]),
    "choices": (
        30, ["choices.py --dataset mnist", "choices.py --dataset cifar10 --images 45000"],
        ["choices_mnist", "choices_cifar10"]),
    "certify": (0.5, ["certify.py --rounds 5"], ["certify"]),
    "certify_images": (0.1, ["certify_images.py --rounds 7"], ["certify_images"]),
    "photo_attacks": (0.1, ["photo_attacks.py"], ["photo_attacks"]),
    "training_memory": (0.3, ["training_memory.py"], ["training_memory"]),
    "layouts": (0.1, ["layouts.py"], ["layouts"]),
    "flip_choice": (0.1, ["flip_choice.py"], ["flip_choice"]),
    "soundness": (0.5, ["soundness.py --part patches"], ["soundness"]),
    "predictions": (1, ["soundness.py --part predictions"], ["predictions"]),
}  # fmt: skip
FOLDER = PUBLISHED.parent / "reproduced"
SLOW = 3600  # seconds after which a reduced table is stopped


def reduced_tables():
    """Functions of reduced tables by name; imported late, in the process of one table."""
    import reproductions
    import reproductions_tokens

    return {**reproductions.TABLES, **reproductions_tokens.TABLES}


NAMES = (  # quickest first
    "soundness", "predictions", "layouts", "flip_choice", "training_memory", "certify",
    "certify_images", "photo_attacks", "pareto:mnist", "pareto:cifar10", "ablations:mnist",
    "ablations:cifar10",
    "stickers:mnist", "stickers:fashion_mnist", "poster_fashion_mnist", "poster_cifar10",
    "choices_cifar10", "choices_mnist", "poster_mnist", "whole_image:mnist",
    "whole_image:fashion_mnist", "whole_image:cifar10", "mnist", "attacks", "pretrained", "others",
)  # fmt: skip


def worked(name):
    """What a process of its own finds about one table, also if it cannot."""
    try:
        return {"checks": reduced_tables()[name]()}
    except ImportError as error:
        return {"left_out": f"needs the package {error.name}, which is not installed"}
    except OSError as error:
        return {"left_out": str(error)}  # a data set that is missing says where it is looked for
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}


def cpu_seconds():
    """CPU time of all processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def apart(name):
    """Run `worked` in a process with a results folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "checks.json", Path(folder) / "log"
        command = [sys.executable, __file__, "--work", name, "--out", str(out)]
        start, before = time.perf_counter(), cpu_seconds()
        with log.open("w") as stream:
            try:
                subprocess.run(
                    command, stdout=stream, stderr=subprocess.STDOUT, timeout=SLOW, check=False,
                    env={**os.environ, "PATCHCERT_RESULTS": folder},
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return {"failed": f"stopped after {SLOW} seconds", "seconds": float(SLOW)}
        spent = {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - before}
        if not out.exists():
            last = (log.read_text().strip().splitlines() or ["no message"])[-1]
            return {"failed": f"the process ended: {last}", **spent}
        found = json.loads(out.read_text())
        if "failed" in found:
            found["log"] = log.read_text().splitlines()[-12:]
        return {**found, **spent}


def in_full(name):
    """Run the full commands of a name and compare the tables that both folders give."""
    from report import made

    _, commands, tables = FULL[name]
    start, checks = time.perf_counter(), {}
    for command in commands:
        script, *options = command.split()
        subprocess.run(
            [sys.executable, str(PUBLISHED.parent / script), *options], check=True,
            env={**os.environ, "PATCHCERT_RESULTS": str(FOLDER)},
        )  # fmt: skip
    for table in tables:
        again, before = made(table, FOLDER), made(table, PUBLISHED)
        if again is None or before is None:
            checks[table] = {"failed": "one of the two results is missing"}
        elif before[0]:
            checks[table] = {"checks": cells(before, again)}
        else:
            checks[table] = {"checks": [], "note": again[2]}
    seconds = time.perf_counter() - start
    return {table: {**found, "seconds": seconds} for table, found in checks.items()}


def shown(value):
    """A short form of a figure, or of several."""
    if isinstance(value, list):
        return " / ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return "" if value is None else str(value)


def lines(name, found):
    """A table of a terminal: each figure, both values, tolerance and verdict."""
    cpu = f", {found['cpu']:.0f} s of CPU time" if "cpu" in found else ""
    head = f"\n{name} ({found['seconds']:.0f} s{cpu})"
    if "checks" not in found:
        kind = "left out" if "left_out" in found else "FAILED"
        return [f"{head}: {kind}: {found.get('left_out') or found['failed']}"]
    header = ("figure", "published", "again", "tolerance", "verdict")
    rows = [header] + [
        (check["figure"], shown(check["published"]), shown(check["again"]), check["rule"],
         check["verdict"])
        for check in found["checks"]
    ]  # fmt: skip
    rows = [(textwrap.shorten(row[0], 62, placeholder="..."), *row[1:]) for row in rows]
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    table = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)),
                        row[4]]) for row in rows]  # fmt: skip
    return [head, table[0], "-" * len(table[0]), *table[1:]]


def summary(tables):
    """Counts by table, and the figures that differ with the reason of their tolerance."""
    found = ["\nSummary"]
    total: Counter = Counter()
    for name, table in tables.items():
        counts = Counter(check["verdict"] for check in table.get("checks", ()))
        total += counts
        state = "failed" if "failed" in table else "left out" if "left_out" in table else ""
        verdicts = (AGREES, DIFFERS, NOT_COMPARABLE)
        state = state or ", ".join(f"{counts[one]} {one}" for one in verdicts if counts[one])
        found.append(f"  {name:28} {state}")
    found.append(f"  {'all':28} " + ", ".join(f"{n} {verdict}" for verdict, n in total.items()))
    wrong = [(name, check) for name, table in tables.items() for check in table.get("checks", ())
             if check["verdict"] == DIFFERS]  # fmt: skip
    if wrong:
        found.append("\nFigures that differ")
    for name, check in wrong:
        pair = f"{shown(check['published'])} -> {shown(check['again'])}"
        found.append(f"  {name}: {check['figure']}: {pair} ({check['rule']}: {check['why']})")
    return found


def listing():
    """Commands with hours, and the tables that are not reduced."""
    found = ["In full (hours on two cores are estimates):"]
    for name, (hours, commands, _) in FULL.items():
        for place, command in enumerate(commands):
            cost = f"{name:22} {hours:6.1f} h" if place == 0 else f"{'and then':31}"
            found.append(f"  {cost}  python benchmarks/{command}")
    found += ["", "Reduced (--quick):", *textwrap.wrap(", ".join(NAMES), 96, initial_indent="  ",
                                                       subsequent_indent="  ")]  # fmt: skip
    found += ["", "Not reduced:", *(f"  {name}: {why}" for name, why in LEFT_OUT.items())]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="reduced, minutes a table")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these tables; others are kept")
    parser.add_argument("--list", action="store_true", help="show names, commands and hours")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        Path(options.out).write_text(json.dumps(worked(options.work)))
        return
    if options.list:
        print("\n".join(listing()))
        return
    known = NAMES if options.quick else tuple(FULL)
    unknown = set(options.only or ()) - set(known)
    if unknown:
        parser.error(f"unknown names {sorted(unknown)}; choose from {', '.join(known)}")
    path = PUBLISHED / "reproduced.json"
    kept = json.loads(path.read_text()) if path.exists() and options.only else {}
    tables = kept.get("tables", {}) if kept.get("quick") == options.quick else {}
    print("\n".join(listing()), flush=True)
    for name in options.only or known:
        made = {name: apart(name)} if options.quick else in_full(name)
        for table, found in made.items():
            tables[table] = {**found, "environment": environment()}
            print("\n".join(lines(table, found)), flush=True)
        save("reproduced", {"quick": options.quick, "tables": tables, "left_out": LEFT_OUT})
    print("\n".join(summary(tables)))
    bad = [table for table in tables.values() if "failed" in table or any(
        check["verdict"] == DIFFERS for check in table.get("checks", ()))]  # fmt: skip
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
