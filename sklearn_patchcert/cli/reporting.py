"""Write one page that shows what a model can do on a folder of labeled pictures."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_scale, add_talk, positive

EPILOG = """
The page holds all that it shows and loads nothing: accuracy, certified accuracy, the
vocabulary, the radii, the weakest and the strongest images with their maps, the model's
card, and a table of all images.

Example:
  patchcert report photos/ --model model.patchcert --out report.html
"""


def add_options(add):
    add("folder", type=Path, help="a folder with a subfolder of pictures for each class")
    add_scale(add)
    add_model(add)
    add("--out", required=True, type=Path, help="the page to write, report.html")
    add("--norm", choices=("l2", "linf", "l1"), default="l2", help="inside a patch (default: l2)")
    add(
        "--prediction",
        action="store_true",
        help="also certify the prediction of each image as a whole, which takes longer",
    )
    add(
        "--max-seconds",
        type=positive(float),
        default=5.0,
        metavar="S",
        help="that --prediction takes at most for an image (default: 5)",
    )
    add("--title", help="of the page")
    add_talk(add, json=False)


def run(options):
    from sklearn_patchcert.cli import inputs
    from sklearn_patchcert.cli.labels import labeled
    from sklearn_patchcert.reporting import write_report

    left_out = inputs.LeftOut(options.quiet)
    opened = inputs.open_model(options)
    data = labeled(options.folder, opened, left_out)
    with inputs.spoken_warnings():
        try:
            write_report(
                opened.model,
                data.X,
                data.y,
                options.out,
                names=data.names,
                norm=options.norm,
                skipped=left_out.reasons,
                title=options.title,
                verbose=not options.quiet,
            )
        except (TypeError, ValueError) as error:
            raise Impossible(inputs.first_line(error)) from None
    left_out.end(f"{len(data.X)} pictures in {options.out}")
    return left_out.status
