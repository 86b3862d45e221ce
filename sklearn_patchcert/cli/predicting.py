"""Predict the class of pictures, with the probability and how far each patch may be changed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_pictures, add_talk

EPILOG = """
A table of CSV is printed, or written with --out: file, class, probability, and the
smallest and the mean patch radius (L2, in the units of the images that the model sees:
0..1 behind a reader).

Example:
  patchcert predict holiday/ --model model.patchcert --out holiday.csv
"""


def add_options(add):
    add_pictures(add)
    add_model(add)
    add("--out", type=Path, help="a CSV file to write to, instead of printing")
    add_talk(add)


def run(options):

    from sklearn_patchcert.cli import inputs
    from sklearn_patchcert.whole_files import replacing

    left_out = inputs.LeftOut(options.quiet)
    opened = inputs.open_model(options)
    if not hasattr(opened.model, "predict"):
        raise Impossible(f"the model is a {type(opened.model).__name__}, which predicts nothing")
    files = inputs.find_files(options.places, left_out, options.out)
    rows: list = []
    with inputs.spoken_warnings(), left_out.progress(len(files), "predicting"):
        for names, X in opened.batches(files, left_out):
            for name, found in inputs.one_by_one(_answers, opened.model, names, X, left_out):
                rows.append({"file": name, **found})
                left_out.bar.update()
    columns = ["file", "class", "probability", "smallest_radius", "mean_radius"]

    def write(stream):
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

    if options.out is not None:
        with (
            replacing(options.out) as partial,
            open(partial, "w", newline="", encoding="utf-8") as f,
        ):
            write(f)
    if options.json:
        inputs.told({"images": rows, "left_out": left_out.reasons}, True, "")
    elif options.out is None:
        write(sys.stdout)
    left_out.end(f"{len(rows)} predicted")
    return left_out.status if rows else 2


def _answers(model, X):
    """A row for each image."""
    predicted = model.predict(X)
    radii = model.certify(X).reshape(len(X), -1)
    chances = [None] * len(X)
    if hasattr(model, "predict_proba"):
        chances = model.predict_proba(X).max(1).tolist()
    for answer, chance, own in zip(predicted.tolist(), chances, radii, strict=True):
        row = {"class": answer, "smallest_radius": own.min(), "mean_radius": own.mean()}
        yield row if chance is None else {**row, "probability": chance}
