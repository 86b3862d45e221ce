"""Say what a model is, what it was trained on and what it expects."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_max_bytes, add_talk, shown

EPILOG = """
Example:
  patchcert info model.patchcert --picture tokens.png
"""
_DRAWN = (".png", ".svg", ".pdf")


def add_options(add):
    add("model", type=Path, help="a file that `patchcert fit` or sklearn_patchcert.save wrote")
    add_max_bytes(add)
    add(
        "--picture",
        type=Path,
        metavar="FILE",
        help=f"draw the vocabulary to this file ({', '.join(_DRAWN)})",
    )
    add_talk(add, jobs=False)


def run(options):
    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.files import archive
    from sklearn_patchcert.files.cards import read_card

    most = options.max_bytes or archive.MAX_BYTES
    with talking.spoken_warnings():
        model = opened.read_model(options.model, most)
        try:
            card = read_card(options.model, max_bytes=most)
        except archive.ModelFileError as error:
            raise Impossible(error) from None
    facts = {"file": str(options.model), **facts_of(model)}
    if card:
        facts["trained"] = card
    if options.picture:
        if options.picture.suffix.lower() not in _DRAWN:
            raise Impossible(f"--picture must end in one of {', '.join(_DRAWN)}")
        maps.check_file(options.picture, [options.model])
        vocabulary = opened.vocabulary_of(model)
        if vocabulary is None:
            raise Impossible("the model masks pixels, and has no vocabulary to draw")
        draw(vocabulary, options.picture)
    talking.told(facts, options.json, "\n".join(_lines(facts)))
    return 0


def facts_of(model):
    """What can be said of a model, as plain values."""
    import numpy as np

    from sklearn_patchcert.datasets.readers import ImageReader
    from sklearn_patchcert.displays.report.cards import steps_card

    facts: dict = {"model": type(model).__name__}
    facts["steps"] = {step["name"]: _step(step) for step in steps_card(model)}
    if hasattr(model, "classes_"):
        facts["classes"] = model.classes_.tolist()
    if hasattr(model, "mask_space_"):
        facts["stickers"] = {
            "sizes": [f"{height} x {width}" for height, width in model._sticker_sizes()],
            "at_once": model.n_stickers,
            "masked": model.mask_space_,
            "masks": len(model.masks_),
            "predictions_of_a_certificate": len(model._made_plan.unions),
        }
    vocabulary = _first(model, lambda step: hasattr(step, "vocabulary_"))
    reader = _first(model, lambda step: isinstance(step, ImageReader))
    expects: dict = {}
    if reader is not None:
        expects["files"] = "pictures of any size, read by the model itself"
    shaped = next((one for one in (vocabulary, model) if hasattr(one, "image_shape_")), None)
    if shaped is not None:
        height, width, channels = shaped.image_shape_
        expects |= {"height": height, "width": width, "channels": channels}
    seen = getattr(model, "input_range_", None)
    if seen is not None:
        expects["values_from_to"] = list(seen)
    if getattr(model, "input_dtype_", None) is not None:
        expects["dtype"] = str(model.input_dtype_)
    facts |= {"expects": expects} if expects else {}
    if vocabulary is not None:
        facts["vocabulary"] = {
            "tokens": vocabulary._sizes[0] if len(vocabulary._sizes) == 1 else vocabulary._sizes,
            "patch_size": list(vocabulary.patch_size_),
            "per_channel": vocabulary.per_channel_,
            "strategy": vocabulary.strategy,
            "perplexity": np.asarray(vocabulary.perplexity_).tolist(),
        }
    return facts


def _step(step):
    """A step and its options that are not the default."""
    options = ", ".join(f"{name}={value}" for name, value in step["options"].items())
    return f"{step['kind']}({options})"


def _first(model, is_it):
    inside = getattr(model, "estimator_", model)
    inside = getattr(inside, "estimator", inside)
    parts = [step for _, step in getattr(inside, "steps", [])] or [model]
    parts = [getattr(step, "estimator", step) for step in parts]
    return next((step for step in parts if is_it(step)), None)


def _lines(facts, indent=""):
    width = max((len(shown(name)) for name in facts), default=0)
    for name, value in facts.items():
        label = shown(name).replace("_", " ")
        if isinstance(value, dict):
            yield f"{indent}{label}:"
            yield from _lines(value, indent + "  ")
        else:
            parts = value if isinstance(value, list) else [value]
            texts = [f"{one:.4g}" if isinstance(one, float) else shown(one) for one in parts]
            yield f"{indent}{label + ':':{width + 1}} {', '.join(texts)}"


def draw(vocabulary, path):
    """Draw the tokens to a file."""
    try:
        import matplotlib

        matplotlib.use("Agg")
    except ImportError as error:
        raise Impossible(
            '--picture needs matplotlib: pip install "sklearn-patchcert[plot]"'
        ) from error
    from sklearn_patchcert.displays.vocabularies import VocabularyDisplay
    from sklearn_patchcert.whole_files import replacing

    try:
        figure = VocabularyDisplay.from_estimator(vocabulary).figure_
    except ValueError as error:
        raise Impossible(error) from None
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=150, bbox_inches="tight")
