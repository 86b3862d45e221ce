"""Options that several commands have, and what may stand in them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


class Impossible(Exception):
    """Why nothing can be done, for the user to read."""


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
    add("--model", required=True, type=Path, help="a file that fit or sklearn_patchcert.save wrote")
    add("--max-bytes", type=positive(int), metavar="N", help="refuse a larger model file")


def add_pictures(add, what="pictures, .npy arrays, or folders of them"):
    add("places", nargs="+", type=Path, metavar="PATH", help=what)
    add_scale(add)


def add_scale(add):
    add(
        "--scale",
        type=positive(float),
        help="for a model that was fitted on arrays and does not say their range: what the values "
        "0..255 are divided by, 1 for a model of 0..255, 255 for one of 0..1",
    )


def add_talk(add, json=True):
    add("--jobs", type=positive(int), metavar="N", help="threads that read files (default: 1)")
    add("--quiet", action="store_true", help="no progress bar and no summary")
    if json:
        add("--json", action="store_true", help="print the result as one JSON object")
