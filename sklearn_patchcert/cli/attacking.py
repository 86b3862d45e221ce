"""Attack a model on labeled pictures, and say what attacks leave of its accuracy."""

from __future__ import annotations

from sklearn_patchcert.cli.options import Impossible, add_labeled, add_model, add_talk, positive

EPILOG = """
Attacks give upper bounds: no model is more robust than the strongest attack
leaves it. --eps is the norm of the change of a whole image, in the units of
the images that the model sees. If it reads pictures itself these are 0..1, and
the L2 norm 1 is as much as one value that changes from black to white.
Attacked images may leave that range, which makes attacks stronger.

A model that is certified against stickers is attacked with stickers, without
--eps, while all other patches move by less than their radii.

Every attack has its own bar. An attack that was interrupted starts again.

Example:
  patchcert attack photos/ --model model.patchcert --eps 0.5 --images 50
"""


def add_options(add):
    add_labeled(add)
    add_model(add)
    add("--eps", type=positive(float), metavar="E", help="norm of the change of an image")
    add("--norm", choices=("l2", "linf"), default="l2", help="over the whole image (default: l2)")
    add(
        "--images",
        type=positive(int),
        default=100,
        metavar="N",
        help="attack so many, drawn at random (default: 100)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of all that is random (default: 0)")
    add_talk(add)


def run(options):
    from sklearn_patchcert.cli import opened, talking
    from sklearn_patchcert.cli.labels import labeled
    from sklearn_patchcert.cli.stickers.attacking import attack_stickers
    from sklearn_patchcert.scorers.reports import robustness_report

    left_out = talking.LeftOut(options.quiet)
    own = opened.open_model(options)
    if own.masked != (options.eps is None):
        raise Impossible(
            "--eps is for whole images, and the model is certified against stickers: leave it out"
            if own.masked else "--eps is missing: the norm of the change of an image"
        )  # fmt: skip
    data = labeled(options.folder, own, left_out, n_images=options.images, seed=options.seed)
    if own.masked:
        return attack_stickers(own.model, data, options, left_out)
    with talking.spoken_warnings():
        try:
            report = robustness_report(
                own.model,
                data.X,
                data.y,
                eps=options.eps,
                norm=options.norm,
                random_state=options.seed,
                verbose=not options.quiet,
            )
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
    table = report.table
    result = {
        "images": len(data.X),
        "eps": options.eps,
        "norm": options.norm,
        "table": table.to_dict("records") if hasattr(table, "to_dict") else table,
        "checks": report.checks,
        "robust": int(report.robust.sum()),
        "left_out": left_out.reasons,
    }
    talking.told(result, options.json, str(report))
    left_out.end(f"{len(data.X)} attacked")
    return left_out.status
