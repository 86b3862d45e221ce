"""Say what a model is, what it was trained on and what it expects."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, positive

EPILOG = """
Example:
  patchcert info model.patchcert --picture tokens.png
"""


def add_options(add):
    add("model", type=Path, help="a file that fit or sklearn_patchcert.save wrote")
    add("--max-bytes", type=positive(int), metavar="N", help="refuse a larger model file")
    add("--picture", type=Path, help="draw the vocabulary to this file (.png, .svg, .pdf)")
    add("--json", action="store_true", help="print one JSON object")


def run(options):
    from sklearn_patchcert.cli import inputs
    from sklearn_patchcert.files.archive import MAX_BYTES, ModelFileError
    from sklearn_patchcert.files.cards import read_card
    from sklearn_patchcert.files.model_files import load

    try:
        with inputs.spoken_warnings():
            model = load(options.model, max_bytes=options.max_bytes or MAX_BYTES)
            card = read_card(options.model, max_bytes=options.max_bytes or MAX_BYTES)
    except ModelFileError as error:
        raise Impossible(error) from None
    facts = {"file": str(options.model), **facts_of(model)}
    if card:
        facts["trained"] = card
    inputs.told(facts, options.json, "\n".join(_lines(facts)))
    if options.picture:
        draw(inputs.vocabulary_of(model), options.picture)
    return 0


def facts_of(model):
    """What can be said of a model, as plain values."""
    from sklearn_patchcert.datasets.readers import ImageReader

    facts: dict = {"model": type(model).__name__}
    steps = getattr(model, "steps", [])
    facts["steps"] = {name: repr(step).replace("\n", " ") for name, step in steps}
    if hasattr(model, "classes_"):
        facts["classes"] = model.classes_.tolist()
    vocabulary = _first(model, lambda step: hasattr(step, "vocabulary_"))
    reader = _first(model, lambda step: isinstance(step, ImageReader))
    expects: dict = {}
    if reader is not None:
        expects["files"] = "pictures of any size, read by the model itself"
    if vocabulary is not None and hasattr(vocabulary, "image_shape_"):
        height, width, channels = vocabulary.image_shape_
        expects |= {"height": height, "width": width, "channels": channels}
    seen = getattr(model, "input_range_", None)
    if seen is not None:
        expects["values_from_to"] = list(seen)
    if getattr(model, "input_dtype_", None) is not None:
        expects["dtype"] = str(model.input_dtype_)
    facts["expects"] = expects
    if vocabulary is not None:
        facts["vocabulary"] = {
            "tokens": int(vocabulary.vocabulary_.shape[-2]),
            "patch_size": list(vocabulary.patch_size_),
            "per_channel": vocabulary.per_channel_,
            "strategy": vocabulary.strategy,
            "perplexity": vocabulary.perplexity_,
        }
    return facts


def _first(model, is_it):
    parts = [step for _, step in getattr(model, "steps", [])] or [model]
    parts = [getattr(step, "estimator", step) for step in parts]
    return next((step for step in parts if is_it(step)), None)


def _lines(facts, indent=""):
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            yield f"{indent}{label}:"
            yield from _lines(value, indent + "  ")
        else:
            parts = value if isinstance(value, list) else [value]
            shown = [f"{one:.4g}" if isinstance(one, float) else str(one) for one in parts]
            yield f"{indent}{label + ':':{width + 1}} {', '.join(shown)}"


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

    figure = VocabularyDisplay.from_estimator(vocabulary).figure_
    figure.savefig(path, dpi=150, bbox_inches="tight")
