"""Attack a model on labeled pictures, and say what every attack leaves of its accuracy."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_scale, add_talk, positive

EPILOG = """
Attacks give upper bounds: no model is more robust than the strongest attack leaves it.
--eps is the norm of the change of a whole image, in the units of the images that the
model sees: 0..1 behind a reader, so that an L2 norm of 1 is one value changed from black
to white.  Attacked images may leave that range, which makes attacks stronger.

Example:
  patchcert attack photos/ --model model.patchcert --eps 0.5 --images 50
"""


def add_options(add):
    add("folder", type=Path, help="a folder with a subfolder of pictures for each class")
    add_scale(add)
    add_model(add)
    add("--eps", required=True, type=positive(float), help="how far an image may be changed")
    add("--norm", choices=("l2", "linf"), default="l2", help="over the whole image (default: l2)")
    add(
        "--images",
        type=positive(int),
        default=100,
        metavar="N",
        help="attack so many, drawn at random (default: 100)",
    )
    add("--seed", type=int, default=0, help="for the drawing and the attacks (default: 0)")
    add_talk(add)


def run(options):
    from sklearn_patchcert.cli import inputs
    from sklearn_patchcert.cli.labels import labeled
    from sklearn_patchcert.scorers.reports import robustness_report

    left_out = inputs.LeftOut(options.quiet)
    opened = inputs.open_model(options)
    data = labeled(options.folder, opened, left_out, n_images=options.images, seed=options.seed)
    with inputs.spoken_warnings():
        try:
            report = robustness_report(
                opened.model,
                data.X,
                data.y,
                eps=options.eps,
                norm=options.norm,
                random_state=options.seed,
                verbose=not options.quiet,
            )
        except (TypeError, ValueError) as error:
            raise Impossible(inputs.first_line(error)) from None
    result = {
        "images": len(data.X),
        "eps": options.eps,
        "norm": options.norm,
        "table": report.table.to_dict("records")
        if hasattr(report.table, "to_dict")
        else report.table,
        "checks": report.checks,
        "robust": int(report.robust.sum()),
        "left_out": left_out.reasons,
    }
    inputs.told(result, options.json, str(report))
    left_out.end(f"{len(data.X)} attacked")
    return left_out.status
