"""`patchcert attack` on a model that decides by double masking: what stickers leave of it."""

from __future__ import annotations

from sklearn_patchcert.cli import talking
from sklearn_patchcert.cli.options import Impossible


def attack_stickers(model, data, options, left_out):
    """Attack pictures with stickers, and say what is certified and what is left.

    Parameters
    ----------
    model : fitted StickerCertifiedClassifier
    data : Bunch
        Of `labeled`.
    options : Namespace
    left_out : LeftOut

    Returns
    -------
    status : int
    """
    from sklearn_patchcert.scorers import certified

    with talking.spoken_warnings():
        try:
            found = model.certify(data.X)
            left = certified.sticker_attack_accuracy(
                model,
                data.X,
                data.y,
                random_state=options.seed,
                certified_places=found.places,
                verbose=not options.quiet,
            )
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
    right = found.prediction == data.y
    result = {
        "images": len(data.X),
        "accuracy": float(right.mean()),
        "certified_accuracy": float((right & found.certified).mean()),
        "accuracy_under_attack": left,
    }
    lines = [
        f"{name.replace('_', ' '):22}{100 * share:6.1f} %"
        for name, share in list(result.items())[1:]
    ]
    result["left_out"] = left_out.reasons
    talking.told(result, options.json, "\n".join(lines))
    left_out.end(f"{len(data.X)} attacked with stickers")
    return left_out.status
