"""Predict the class of pictures, and say how far each patch may be changed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_pictures, add_talk, cell, shown

EPILOG = """
The result is a table (CSV) with a line for each picture: file, class,
probability, and the smallest and the mean patch radius. Radii are in the L2
norm and in the units of the images that the model sees: 0..1 if it reads
pictures itself. Without --out the table is printed, each line as soon as it is
known.

A model that is certified against stickers predicts by double masking; what
is certified of the prediction, `patchcert certify` says. If it masks pixels,
there are no radii.

With --out, a command that was interrupted goes on where it is started again.

Example:
  patchcert predict holiday/ --model model.patchcert --out holiday.csv
"""


def add_options(add):
    add_pictures(add)
    add_model(add)
    add("--out", type=Path, metavar="FILE", help="write the table to this file (.csv)")
    add_talk(add)


def run(options):
    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.cli.finding import find_files
    from sklearn_patchcert.cli.journal import Journal, beside
    from sklearn_patchcert.whole_files import clear_leftovers, replacing

    left_out = talking.LeftOut(options.quiet)
    own = opened.open_model(options)
    if not hasattr(own.model, "predict"):
        raise Impossible(f"the model is a {type(own.model).__name__}, which predicts nothing")
    files = find_files(options.places, left_out)
    own.check(files)
    if options.out is not None:
        maps.check_file(options.out, [options.model, *files.values()])
        clear_leftovers(options.out.absolute().parent)
    journal = Journal(beside(options.out), options.model, {"scale": options.scale})
    rows = journal.rows(files)
    left = {name: path for name, path in files.items() if name not in rows}
    answer = "class" if hasattr(own.model, "classes_") else "prediction"
    columns = ["file", answer, "probability", "smallest_radius", "mean_radius"]
    lines = _Lines(columns) if options.out is None and not options.json else None
    with (
        talking.spoken_warnings(),
        left_out.progress(len(files), "predicting", len(rows)) as bar,
        journal,
    ):
        for name, X in own.each(left, left_out):
            row = opened.answered(_answer, own.model, name, X, left_out)
            if row is None:
                continue
            rows[name] = {answer: row.pop("answer"), **row}
            journal.add(name, rows[name])
            if lines is not None:
                lines.write({"file": cell(name), **rows[name]})
            bar.update()
    found = [{"file": name, **rows[name]} for name in files if name in rows]
    if found and options.out is not None:
        with (
            replacing(options.out) as partial,
            open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
        ):
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "file": cell(row["file"])} for row in found)
        journal.remove()
    if options.json:
        talking.told({"images": found, "left_out": left_out.reasons}, True, "")
    left_out.end(f"{len(found)} predicted")
    if not found:
        raise Impossible("none of the pictures could be predicted")
    return left_out.status


def _answer(model, X):
    """The row of an image."""
    from sklearn_patchcert.cli.stickers.images import is_masked, predicted

    if is_masked(model):
        return predicted(model, X)
    radii = model.certify(X)
    answers = model.predict(X)
    row = {
        "answer": answers.tolist()[0],
        "smallest_radius": float(radii.min()),
        "mean_radius": float(radii.mean()),
    }
    if hasattr(model, "predict_proba") and answers.ndim == 1:  # of a class, not of each label
        row["probability"] = float(model.predict_proba(X).max())
    return row


class _Lines:
    """A table on standard output, printed line by line."""

    def __init__(self, columns):
        self.on_terminal = sys.stdout.isatty()
        self.writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
        self.write({name: name for name in columns})

    def write(self, row):
        if self.on_terminal:  # no name takes it over, and the bar makes room
            from tqdm import tqdm

            row = {name: shown(cell) if type(cell) is str else cell for name, cell in row.items()}
            with tqdm.external_write_mode(file=sys.stdout):
                self.writer.writerow(row)
        else:
            self.writer.writerow(row)
        sys.stdout.flush()
