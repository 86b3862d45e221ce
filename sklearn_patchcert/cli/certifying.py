"""Write the certified radius of every patch, as arrays and as pictures."""

from __future__ import annotations

import csv
import errno
from contextlib import contextmanager
from pathlib import Path

from sklearn_patchcert.cli.options import (
    Impossible,
    add_model,
    add_norm,
    add_pictures,
    add_prediction,
    add_talk,
    cell,
    prediction_options,
    sharing,
    shown,
)

EPILOG = """
For every picture three files are written: NAME.radii.npy, the radius of every
patch; NAME.radii.png, a picture of them in the size of the image, whose colors
go from 0 (dark) to the largest radius of the whole run (bright); and
NAME.overlay.png, the image beside the same colors laid over it, with a color
bar. statistics.csv has a line for each image: the smallest of its radii, which
is also the radius of the largest ball, in that norm over the whole image, in
which no patch changes; their mean; and their sum, which is a slack statistic
and no radius of anything. --prediction adds the radius of the prediction of
the whole image.

Of a model that is certified against stickers there are also NAME.places.npy,
which is true where no sticker whose upper left pixel lies in this patch can
change the class, and NAME.places.png, a picture of it; the statistics say
whether the whole image is certified, and the share of its places. If the
model masks pixels, there are no radii. Of a regressor there are
NAME.places_lower.npy and NAME.places_upper.npy instead: the value stays between
them under a sticker whose upper left pixel lies in this patch. The statistics
have the lower and the upper bound under a sticker anywhere.

Radii are in the units of the images that the model sees. A model that was
fitted with `patchcert fit` reads and resizes pictures itself; its units are
0..1, also for .npy arrays of floats. A model that was fitted on arrays takes
.npy arrays of one image, in its own units, and pictures that have its size.

A command that was interrupted goes on where it is started again, with the same
model, options and pictures, in the same folder.

Example:
  patchcert certify holiday/ --model model.patchcert --out maps/
"""
_RADII = (".radii.npy", ".radii.png", ".overlay.png")


def add_options(add):
    add_pictures(add)
    add_model(add)
    add(
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="the folder to write to; it is made if it is not there",
    )
    add_norm(add)
    add_prediction(add, None)
    add("--no-pictures", action="store_true", help="write only arrays and statistics")
    add_talk(add)


def run(options):
    import functools
    from itertools import repeat

    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.cli.finding import find_files
    from sklearn_patchcert.cli.journal import JOURNAL, Journal
    from sklearn_patchcert.cli.stickers.images import ends_of, summary
    from sklearn_patchcert.whole_files import clear_leftovers

    left_out = talking.LeftOut(options.quiet)
    own = opened.open_model(options)
    whole = prediction_options(options, own.model, None)
    if maps.real(options.out) in map(maps.real, options.places):
        raise Impossible(f"{options.out} is read, so it cannot be written to: give another folder")
    files = find_files(options.places, left_out, options.out)
    own.check(files)
    ends = (_RADII if own.vocabulary is not None else ()) + ends_of(own.model)
    written = [options.out / f"{name}{end}" for name in files for end in ends]
    written.append(options.out / "statistics.csv")
    maps.check_apart([options.model, *files.values()], written)
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in {path.parent for path in written}:
        clear_leftovers(folder)
    told = {"norm": options.norm, "scale": options.scale, "prediction": options.prediction}
    told |= whole or {}
    journal = Journal(options.out / JOURNAL, options.model, told)
    rows = journal.rows(files)
    arrays = [end for end in ends if end.endswith(".npy")]
    rows = {name: row for name, row in rows.items()
            if all((options.out / f"{name}{end}").is_file() for end in arrays)}  # fmt: skip
    left = {name: path for name, path in files.items() if name not in rows}
    shares = sharing(whole, len(left)) if whole else repeat(None)
    with (
        talking.spoken_warnings(),
        left_out.progress(len(files), "certifying", len(rows)) as bar,
        journal,
    ):
        for name, X in own.each(left, left_out):
            answer = functools.partial(_answer, norm=options.norm, whole=next(shares))
            found = opened.answered(answer, own.model, name, X, left_out)
            if found is None:
                continue
            made, row = found
            with _fitting_names(name, left_out):
                for end, array in made.items():
                    maps.write_npy(options.out / f"{name}{end}", array)
                rows[name] = row
                journal.add(name, row)
            bar.update()
    top = max((_largest(options.out, name, row) for name, row in rows.items()), default=0.0)
    top = top or max((row.get("largest_radius", 0.0) for row in rows.values()), default=0.0)
    if not options.no_pictures:
        pictures = [end for end in ends if end.endswith(".png")]
        _draw(options, own, {name: files[name] for name in rows}, journal, top, left_out, pictures)
    rows = {name: rows[name] for name in files if name in rows}
    if rows:
        _write_statistics(options.out / "statistics.csv", rows)
    if options.json:
        result = {
            "out": str(options.out),
            "norm": options.norm,
            "brightest_radius": top,
            "images": [{"image": name, **row} for name, row in rows.items()],
            "left_out": left_out.reasons,
        }
        talking.told(result, True, "")
    left_out.end(summary(rows, options.norm, top, own))
    if not rows:
        raise Impossible("none of the pictures could be certified")
    return left_out.status


@contextmanager
def _fitting_names(name, left_out):
    """Leave an image out if the names of its files are too long."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        left_out.add(name, "its name is too long for the files to write")


def _answer(model, X, norm, whole):
    """The arrays of an image by the ends of their files, and its line of the statistics."""
    import numpy as np

    from sklearn_patchcert.cli.stickers.images import certified, is_masked

    if is_masked(model):
        arrays, row = certified(model, X, norm)
    else:
        arrays = {".radii.npy": model.certify(X, norm=norm)[0]}
        predicted = np.ravel(model.predict(X)[0]).tolist() if hasattr(model, "predict") else []
        row = {"prediction": " ".join(map(str, predicted))}
    radii = arrays.get(".radii.npy")
    if radii is not None:
        row |= {
            "norm": norm,
            "patches": radii.size,
            "smallest_radius": float(radii.min()),
            "mean_radius": float(radii.mean()),
            "largest_radius": float(radii.max()),
            "sum_slack_statistic": float(radii.sum()),
        }
    if whole is not None:
        found = model.certify_prediction(X, norm=norm, **whole)
        row["prediction_radius"] = float(found.radius[0])
        row["prediction_radius_is_exact"] = bool(found.exact[0])
    return arrays, row


def _largest(folder, name, row):
    """The largest radius of an image that is not infinite, as all are of a single token."""
    import numpy as np

    if np.isfinite(largest := row.get("largest_radius", 0.0)):
        return largest
    radii = np.load(folder / f"{name}.radii.npy", allow_pickle=False)
    return float(radii.max(initial=0.0, where=np.isfinite(radii)))


def _draw(options, own, files, journal, top, left_out, ends):
    """Pictures of the maps, now that the largest radius of all is known."""
    from sklearn_patchcert.cli import maps
    from sklearn_patchcert.cli.stickers.images import drawn_places

    keys = {name: journal.key(name, top) for name in files}
    left = {
        name: path
        for name, path in files.items()
        if not all(maps.has_key(options.out / f"{name}{end}", keys[name]) for end in ends)
    }
    with left_out.progress(len(files), "drawing", len(files) - len(left)) as bar:
        for name, X in own.each(left, left_out):
            row, texts = journal.done[name]["row"], {"key": keys[name]}
            pictures = {}
            if own.vocabulary is not None:
                pictures = _of_radii(options, own, name, X, row, top)
                texts |= {"brightest_radius": repr(top), "norm": options.norm}
            if ".places.png" in ends:
                made = options.out / f"{name}.places.npy"
                pictures[".places.png"] = drawn_places(own, X, made, row)
            with _fitting_names(name, left_out):
                for end, picture in pictures.items():
                    maps.write_png(options.out / f"{name}{end}", picture, **texts)
            bar.update()


def _of_radii(options, own, name, X, row, top):
    """The map of the radii of an image, and the image under it."""
    import numpy as np

    from sklearn_patchcert.cli import maps

    image, size = own.picture(X), own.vocabulary.patch_size_
    radii = np.load(options.out / f"{name}.radii.npy", allow_pickle=False)
    picture = maps.map_picture(radii, size, image.shape[:2], top)
    caption = shown(f"{row['prediction']}  smallest radius {row['smallest_radius']:.3g}".strip())
    overlay = maps.overlay_picture(image, picture, top, options.norm, caption)
    return {".radii.png": picture, ".overlay.png": overlay}


def _write_statistics(path, rows):
    from sklearn_patchcert.whole_files import replacing

    columns = ["image", *next(iter(rows.values()))]
    with (
        replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"image": cell(name), **row} for name, row in rows.items())
