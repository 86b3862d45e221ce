"""Write the certified radius of every patch of pictures, as arrays and as pictures."""

from __future__ import annotations

import csv
from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_pictures, add_talk, positive

EPILOG = """
For every picture three files are written: NAME.radii.npy, the radius of every patch;
NAME.radii.png, a picture of them in the size of the image, whose colors go from 0 (dark)
to the largest radius of the whole run (bright); and NAME.overlay.png, the image beside
the same colors laid over it, with a color bar. statistics.csv has a line for each image:
the smallest of its radii, which is also the radius of the largest ball, in that norm over
the whole image, in which no patch changes; their mean; and their sum, which is a slack
statistic and no radius of anything. --prediction adds the radius of the prediction of the
whole image.

Radii are in the units of the images that the model sees: 0..1 behind a reader, which
resizes before the certificate; otherwise those of its training, to which pictures are
brought. Arrays (.npy) of floats must be in 0..1.

A command that was interrupted goes on where it is started again, with the same model,
options and pictures, in the same folder.

Example:
  patchcert certify holiday/ --model model.patchcert --out maps/
"""
_ENDINGS = (".radii.npy", ".radii.png", ".overlay.png")


def add_options(add):
    add_pictures(add)
    add_model(add)
    add("--out", required=True, type=Path, help="the folder to write to; made if it is not there")
    add("--norm", choices=("l2", "linf", "l1"), default="l2", help="inside a patch (default: l2)")
    add(
        "--prediction",
        action="store_true",
        help="also certify the prediction of each image as a whole; classifiers, l2 or linf",
    )
    add(
        "--configurations",
        type=positive(int),
        default=10_000,
        metavar="N",
        help="of tokens, that --prediction classifies at most for an image (default: 10000)",
    )
    add(
        "--max-seconds",
        type=positive(float),
        metavar="S",
        help="that --prediction takes at most for an image; what it finds then differs from run to "
        "run",
    )
    add("--no-pictures", action="store_true", help="write arrays and statistics alone")
    add_talk(add)


def run(options):
    import functools

    from sklearn_patchcert.cli import inputs, maps
    from sklearn_patchcert.cli.journal import Journal
    from sklearn_patchcert.whole_files import clear_leftovers

    left_out = inputs.LeftOut(options.quiet)
    opened = inputs.open_model(options)
    _check(options, opened.model)
    if options.out.resolve() in [place.resolve() for place in options.places]:
        raise Impossible(f"{options.out} is read, so it cannot be written to: give another folder")
    files = inputs.find_files(options.places, left_out, options.out)
    written = [options.out / f"{name}{end}" for name in files for end in _ENDINGS]
    written.append(options.out / "statistics.csv")
    try:
        maps.check_apart([options.model, *files.values()], written)
    except ValueError as error:
        raise Impossible(error) from None
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in {path.parent for path in written}:
        clear_leftovers(folder)
    told = {
        "norm": options.norm,
        "scale": options.scale,
        "prediction": options.prediction and [options.configurations, options.max_seconds],
    }
    journal = Journal(options.out / ".patchcert.jsonl", options.model, told)
    rows = {name: journal.row(name, path) for name, path in files.items()}
    rows = {
        name: row
        for name, row in rows.items()
        if row is not None and (options.out / f"{name}.radii.npy").is_file()
    }
    left = {name: path for name, path in files.items() if name not in rows}
    answers = functools.partial(_answers, options=options)
    with (
        inputs.spoken_warnings(),
        left_out.progress(len(files), "certifying") as bar,
        journal,
    ):
        bar.update(len(rows))
        for names, X in opened.batches(left, left_out, 1 if options.prediction else None):
            for name, (radii, row) in inputs.one_by_one(answers, opened.model, names, X, left_out):
                maps.write_npy(options.out / f"{name}.radii.npy", radii)
                rows[name] = row
                journal.add(name, left[name], row)
                bar.update()
    rows = {name: rows[name] for name in files if name in rows}
    top = max((row["largest_radius"] for row in rows.values()), default=0.0)
    if not options.no_pictures:
        _draw(options, opened, {name: files[name] for name in rows}, rows, top, left_out)
    _write_statistics(options.out / "statistics.csv", rows)
    result = {
        "out": str(options.out),
        "norm": options.norm,
        "brightest_radius": top,
        "images": [{"image": name, **row} for name, row in rows.items()],
        "left_out": left_out.reasons,
    }
    if options.json:
        inputs.told(result, True, "")
    left_out.end(
        f"{len(rows)} certified; the brightest color is the {options.norm} radius {top:.6g}"
    )
    return left_out.status if rows else 2


def _check(options, model):
    if options.prediction and not hasattr(model, "certify_prediction"):
        raise Impossible(f"--prediction is for classifiers, not for a {type(model).__name__}")
    if options.prediction and options.norm == "l1":
        raise Impossible("--prediction knows the norms l2 and linf only")


def _answers(model, X, options):
    """The radii of each image, and its line of the statistics."""
    import numpy as np

    radii = model.certify(X, norm=options.norm)
    predicted = model.predict(X) if hasattr(model, "predict") else [""] * len(X)
    whole = None
    if options.prediction:
        whole = model.certify_prediction(
            X,
            norm=options.norm,
            max_configurations=options.configurations,
            max_seconds=options.max_seconds,
        )
    for at, found in enumerate(radii):
        row = {
            "prediction": " ".join(map(str, np.ravel(predicted[at]).tolist())),
            "norm": options.norm,
            "patches": found.size,
            "smallest_radius": float(found.min()),
            "mean_radius": float(found.mean()),
            "largest_radius": float(found.max(initial=0.0, where=np.isfinite(found))),
            "sum_slack_statistic": float(found.sum()),
        }
        if whole is not None:
            row["prediction_radius"] = float(whole.radius[at])
            row["prediction_radius_is_exact"] = bool(whole.exact[at])
        yield found, row


def _draw(options, opened, files, rows, top, left_out):
    """Pictures of the maps, once the largest radius of all is known."""
    import numpy as np

    from sklearn_patchcert.cli import maps

    size = opened.vocabulary.patch_size_
    with left_out.progress(len(files), "drawing") as bar:
        for names, X in opened.batches(files, left_out):
            for name, image in zip(names, X, strict=True):
                image = opened.picture(image)
                radii = np.load(options.out / f"{name}.radii.npy", allow_pickle=False)
                picture = maps.map_picture(radii, size, image.shape[:2], top)
                texts = {"brightest_radius": repr(top), "norm": options.norm}
                maps.write_png(options.out / f"{name}.radii.png", picture, **texts)
                row = rows[name]
                caption = f"{row['prediction']}  smallest radius {row['smallest_radius']:.3g}"
                overlay = maps.overlay_picture(image, picture, top, options.norm, caption)
                maps.write_png(options.out / f"{name}.overlay.png", overlay, **texts)
                bar.update()


def _write_statistics(path, rows):
    from sklearn_patchcert.whole_files import replacing

    first: dict = next(iter(rows.values()), {})
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["image", *first], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"image": name, **row} for name, row in rows.items())
