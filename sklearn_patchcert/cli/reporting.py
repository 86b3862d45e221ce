"""Write one page that shows what a model can do on a folder of labeled pictures."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import (
    Impossible,
    add_labeled,
    add_model,
    add_norm,
    add_prediction,
    add_talk,
    prediction_options,
    shown,
)

EPILOG = """
The page holds all that it shows and loads nothing: accuracy, certified
accuracy, the vocabulary, the radii, the weakest and the strongest images with
their maps, the model's card, and a table of all images. Of a model that is
certified against stickers it also shows the places of images.

A command that was interrupted goes on where it is started again: what
--prediction or the certificate against stickers found is kept beside the page
until that is written.

Example:
  patchcert report photos/ --model model.patchcert --out report.html
"""
_SECONDS = 5.0  # of --prediction for an image


def add_options(add):
    add_labeled(add)
    add_model(add)
    add("--out", required=True, type=Path, metavar="FILE", help="the page to write, report.html")
    add_norm(add)
    add_prediction(add, _SECONDS)
    add("--title", help="of the page (default: the name of the folder)")
    add_talk(add)


def run(options):
    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.cli.journal import Journal, beside
    from sklearn_patchcert.cli.labels import labeled
    from sklearn_patchcert.cli.stickers.watched import watched
    from sklearn_patchcert.cli.watched import Watched
    from sklearn_patchcert.reporting import write_report
    from sklearn_patchcert.whole_files import clear_leftovers

    left_out = talking.LeftOut(options.quiet)
    own = opened.open_model(options)
    whole = prediction_options(options, own.model, _SECONDS)
    maps.check_file(options.out, [options.model])
    told = {"scale": options.scale, "norm": options.norm, **(whole or {})}
    kept = options.prediction or own.masked
    journal = Journal(beside(options.out) if kept else None, options.model, told)
    data = labeled(options.folder, own, left_out, look=journal.look)
    maps.check_file(options.out, data.files.values())
    clear_leftovers(options.out.absolute().parent)
    folder = options.folder.resolve().name
    in_pictures = own.factor == 1.0
    with talking.spoken_warnings(), journal:
        try:
            found = write_report(
                (watched if own.masked else Watched)(own.model, data, left_out, journal),
                data.X,
                data.y,
                options.out,
                names=data.names,
                norm=options.norm,
                whole_image=whole or False,
                units="pixel values, 0 to 1" if in_pictures else "units of the model's images",
                skipped=left_out.reasons,
                title=shown(options.title or f"Certified patches: {folder}"),
            )
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
    journal.remove()
    result = {
        "out": str(options.out),
        "images": found.n_images,
        "norm": options.norm,
        "accuracy": found.accuracy,
        "accuracy_from_to": found.accuracy_interval,
        "left_out": left_out.reasons,
    }
    if found.smallest is not None:
        result["mean_radius"] = float(found["mean"].mean())
        result["mean_smallest_radius"] = float(found.smallest.mean())
    if found.stickers is not None:
        result["certified_against_stickers"] = float(found.stickers.certified.mean())
        result["share_of_places"] = float(found.stickers.shares.mean())
    if found.whole is not None:
        result["mean_prediction_radius"] = float(found.whole.mean())
    if options.json:
        talking.told(result, True, "")
    left_out.end(f"{found.n_images} pictures in {shown(options.out)}")
    return left_out.status
