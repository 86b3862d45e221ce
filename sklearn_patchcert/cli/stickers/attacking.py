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
    from sklearn_patchcert.attacks.stickers.attack import run_sticker_attack

    with talking.spoken_warnings():
        try:
            certificate = model.certify(data.X)
            found = run_sticker_attack(
                model,
                data.X,
                data.y,
                certified_places=certificate.places,
                random_state=options.seed,
                verbose=not options.quiet,
            )
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
    right = found.correct
    result = {
        "images": len(data.X),
        "accuracy": float(right.mean()),
        "certified_accuracy": float((right & certificate.certified).mean()),
        "accuracy_under_attack": float((right & ~found.success).mean()),
        "broken": [name for name, hit in zip(data.names, found.success, strict=True) if hit],
        "left_out": left_out.reasons,
    }
    names = "accuracy", "certified_accuracy", "accuracy_under_attack"
    lines = [f"{name.replace('_', ' '):22} {100 * result[name]:5.1f} %" for name in names]
    talking.told(result, options.json, "\n".join(lines))
    left_out.end(f"{len(data.X)} attacked with stickers")
    return left_out.status
