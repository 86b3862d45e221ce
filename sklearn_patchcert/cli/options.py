"""Options that several commands have, and what may stand in them."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

CONFIGURATIONS = 10_000


class Impossible(Exception):
    """Why nothing can be done, for the user to read."""


def shown(name):
    """A text for a terminal, which no control character can take over."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(name))


def cell(name):
    """The name of a file for a table: no spreadsheet takes it for a formula, and it still leads
    to the file."""
    return f"./{name}" if name[:1] in tuple("=+-@\t\r\n") else name


def positive(kind):
    """A type for argparse: a finite number above 0."""

    def number(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number


def share(text):
    """A type for argparse: a number from 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return value


def add_model(add):
    add(
        "--model",
        required=True,
        type=Path,
        metavar="FILE",
        help="a file that `patchcert fit` or sklearn_patchcert.save wrote",
    )
    add_max_bytes(add)


def add_max_bytes(add):
    add("--max-bytes", type=positive(int), metavar="N", help="refuse a larger model file")


def add_pictures(add):
    add(
        "places",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="pictures, .npy arrays, or folders, which are searched with all that is below them",
    )
    add_scale(add)


def add_labeled(add):
    add("folder", type=Path, metavar="FOLDER", help="has a subfolder of pictures for each class")
    add_scale(add)


def add_scale(add):
    add(
        "--scale",
        type=positive(float),
        metavar="S",
        help="for a model that was fitted on arrays and does not say what white is: the number "
        "that divides values of 0..255; 1 for a model of 0..255, 255 for a model of 0..1",
    )


def add_norm(add):
    add("--norm", choices=("l2", "linf", "l1"), default="l2", help="inside a patch (default: l2)")


def add_prediction(add, seconds):
    add(
        "--prediction",
        action="store_true",
        help="also certify the prediction of each image as a whole, which takes longer; "
        "for classifiers, in the norms l2 and linf",
    )
    add(
        "--configurations",
        type=positive(int),
        metavar="N",
        help="token assignments that --prediction classifies at most for an image "
        f"(default: {CONFIGURATIONS})",
    )
    add(
        "--max-seconds",
        type=positive(float),
        metavar="S",
        help="time that --prediction takes at most for an image; results then depend on the "
        f"machine (default: {f'{seconds:g}' if seconds else 'no limit'})",
    )
    add(
        "--max-total-seconds",
        type=positive(float),
        metavar="S",
        help="time that --prediction takes at most for all images, which share it (default: no "
        "limit)",
    )


def prediction_options(options, model, seconds):
    """Options of certify_prediction, or None; --prediction is refused where there can be none."""
    given = options.configurations, options.max_seconds, options.max_total_seconds
    if not options.prediction:
        if any(given):
            raise Impossible(
                "--configurations, --max-seconds and --max-total-seconds belong to --prediction: "
                "pass it"
            )
        return None
    if not hasattr(model, "certify_prediction"):
        raise Impossible(f"--prediction is for classifiers, not for a {type(model).__name__}")
    if options.norm == "l1":
        raise Impossible("--prediction knows the norms l2 and linf only")
    return {
        "max_configurations": options.configurations or CONFIGURATIONS,
        "max_seconds": options.max_seconds or seconds,
        "max_total_seconds": options.max_total_seconds,
    }


def sharing(whole, count):
    """Yield options of certify_prediction for each of `count` images that share the time."""
    total = whole["max_total_seconds"]
    until = None if total is None else time.monotonic() + total
    for left in range(count, 0, -1):
        share = None if until is None else max(1e-9, (until - time.monotonic()) / left)
        yield {**whole, "max_total_seconds": share}


def add_talk(add, jobs=True):
    if jobs:
        add("--jobs", type=positive(int), metavar="N", help="threads that read (default: 1)")
    add("--quiet", action="store_true", help="no bar and no summary; what is left out is listed")
    add("--json", action="store_true", help="print the result as one JSON object")
