"""Train a certified classifier on a folder with a subfolder for each class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sklearn_patchcert.cli.options import Impossible, add_talk, positive, share, shown
from sklearn_patchcert.cli.stickers.options import add_stickers, sticker_options

EPILOG = """
Pictures of any size and format are read, turned upright and brought to one
size; files that cannot be read are left out, and listed. A share of the
pictures of each class is held out: the accuracy on them, with its 95 %
confidence interval, and their patch radii are printed and stored in the model.
The model holds its own reader: the other commands prepare pictures as this one
did.

--config names a file of YAML with any other parameters, by their names in
Python. They take precedence over the options:
  vocab__strategy: learned
  vocab__margin_weight: 1.0
  clf__module: PatchResNet

--sticker-size makes a model that is certified against stickers by double
masking: its network is trained with masks, and predict, certify and report
use them. More masks cost time, K x K masks K^2 (K^2 + 1) / 2 predictions for
the certificate of an image; fewer masks hide more of it.

Training that was interrupted starts from the beginning, and no model is
written. With --cache, pictures that were read are not read again.

Examples:
  patchcert fit photos/ --out model.patchcert --image-size 64 --tokens 64
  patchcert fit photos/ --out model.patchcert --epochs 40 --config options.yaml
"""


def add_options(add):
    add(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="the folder, as in photos/cats/1.jpg, photos/dogs/2.png",
    )
    add("--out", required=True, type=Path, metavar="FILE", help="the model file to write")
    add("--overwrite", action="store_true", help="replace a model file that is there")
    number = {"type": positive(int), "metavar": "N"}
    add("--image-size", default=64, **number, help="side of the images, in pixels (default: 64)")
    add("--resize", choices=("crop", "pad", "stretch"), default="crop", help="how (default: crop)")
    add("--mode", choices=("RGB", "L"), default="RGB", help="color or gray (default: RGB)")
    add("--patch-size", default=4, **number, help="side of a patch (default: 4)")
    add("--tokens", default=64, **number, help="of the vocabulary (default: 64)")
    add(
        "--strategy",
        choices=("kmeans", "learned", "denoised", "supervised"),
        default="kmeans",
        help="how tokens are found (default: kmeans)",
    )
    add("--epochs", default=20, **number, help="of the network (default: 20)")
    add(
        "--validation",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="of the pictures of each class to hold out; 0 for none (default: 0.1)",
    )
    add_stickers(add)
    add("--config", type=Path, metavar="FILE", help="a YAML file with other parameters")
    add(
        "--cache",
        type=Path,
        metavar="FILE",
        help="an .npy file for the images, which the next run takes from it",
    )
    add("--seed", type=int, default=0, metavar="N", help="of all that is random (default: 0)")
    add_talk(add)


def run(options):
    import contextlib
    import sys
    import time

    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.cli.configuring import configured, text_of
    from sklearn_patchcert.cli.stickers.options import against_stickers

    maps.check_file(options.out, ())
    if options.out.exists() and not options.overwrite:
        raise Impossible(f"{options.out} is there already: pass --overwrite, or another --out")
    config = text_of(options.config)
    pipeline = configured(_model(options), options.config, config)
    model = against_stickers(pipeline, options)
    left_out = talking.LeftOut(options.quiet)
    clock = [time.perf_counter()]
    data = _read(options, pipeline, left_out)
    maps.check_file(options.out, data.filenames)
    clock.append(time.perf_counter())
    train, held_out = _split(data.target, options, data.target_names, left_out)
    with talking.spoken_warnings(), contextlib.redirect_stdout(sys.stderr):  # tables of skorch
        try:
            model.fit(data.data[train], data.labels[train])
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
        clock.append(time.perf_counter())
        opened.hush(model)
        found = _measured(model, data, held_out) if len(held_out) else {}
    clock.append(time.perf_counter())
    history: Any = getattr(getattr(model, "estimator_", model).steps[-1][1], "history", None)
    network = 0.0 if history is None else sum(history[:, "dur"])
    seconds = {
        "reading": clock[1] - clock[0],
        "vocabulary": clock[2] - clock[1] - network,
        "network": network,
        "evaluation": clock[3] - clock[2],
    }
    card = {
        "folder": options.folder.resolve().name,
        "images": {
            name: int((data.target == at).sum()) for at, name in enumerate(data.target_names)
        },
        "left_out": len(left_out.reasons),
        "trained_on": len(train),
        "held_out": len(held_out),
        **found,
        "options": _given(options, config),
    }
    _save(model, options.out, card)
    result = {"out": str(options.out), **card, "seconds": seconds, "left_out": left_out.reasons}
    talking.told(result, options.json, "\n".join(_lines(card, seconds, options.out)))
    left_out.end(f"{len(data.data)} pictures read")
    return left_out.status


def _model(options):
    """The pipeline that the options describe."""
    from sklearn_patchcert.datasets.readers import ImageReader
    from sklearn_patchcert.networks.estimators import PatchNetClassifier
    from sklearn_patchcert.pipeline import CertifiedPatchClassifier
    from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

    talks = int(not options.quiet)
    reader = ImageReader(
        options.image_size, mode=options.mode, resize=options.resize, n_jobs=options.jobs,
        on_error="warn",
    )  # fmt: skip
    vocabulary = PatchVocabulary(
        options.tokens, options.patch_size, strategy=options.strategy, random_state=options.seed,
        verbose=talks,
    )  # fmt: skip
    network = PatchNetClassifier(
        max_epochs=options.epochs, random_state=options.seed, verbose=talks
    )
    return CertifiedPatchClassifier([("reader", reader), ("vocab", vocabulary), ("clf", network)])


def _read(options, model, left_out):
    """Images as the model's reader makes them, names of their classes, and what was left out."""
    import warnings

    import numpy as np

    from sklearn_patchcert.cli.finding import below
    from sklearn_patchcert.datasets.folders import load_image_folder

    prepared = model.steps[0][1].get_params()
    prepared.pop("on_error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left out is listed
        try:
            data = load_image_folder(
                options.folder, cache=options.cache, verbose=not options.quiet, **prepared
            )
        except ValueError as error:
            raise Impossible(error) from None
    for name, why in data.skipped.items():
        left_out.add(below(name, options.folder), why)
    data.labels = np.array(data.target_names)[data.target]
    kept = set(data.labels.tolist())
    for name in data.target_names:
        if name not in kept:
            left_out.add(name, "a class of which no picture can be read")
    if len(kept) < 2:
        raise Impossible(
            f"there are pictures of one class only, {data.labels[0]}: a classifier needs two"
        )
    return data


def _split(target, options, names, left_out):
    """Indices to train on, and those that are held out of each class."""
    import numpy as np

    rng = np.random.default_rng(options.seed)
    held_out: list = []
    for at in np.unique(target) if options.validation else ():
        own = rng.permutation(np.flatnonzero(target == at))
        if len(own) == 1:
            left_out.note(f"{shown(names[at])} has one picture, which is not held out")
        elif not round(options.validation * len(own)):
            held_out += own[:1].tolist()
        else:
            held_out += own[: min(round(options.validation * len(own)), len(own) - 1)].tolist()
    return np.setdiff1d(np.arange(len(target)), held_out), np.sort(np.array(held_out, dtype=int))


def _measured(model, data, held_out):
    """Accuracy on held-out pictures, with its confidence interval, and their patch radii."""
    import numpy as np
    from scipy.stats import binomtest

    from sklearn_patchcert.composition import certify

    X, y = data.data[held_out], data.labels[held_out]
    right = int((model.predict(X) == y).sum())
    low, high = binomtest(right, len(y)).proportion_ci(0.95, method="exact")
    radii = certify(model, X).reshape(len(X), -1)
    means = {"mean_radius": radii.mean(), "mean_smallest_radius": radii.min(1).mean()}
    return {
        "accuracy": right / len(y),
        "accuracy_from_to": [float(low), float(high)],
        **{name: float(mean) for name, mean in means.items() if np.isfinite(mean)},  # one token
    }


def _given(options, config):
    """The options of the command, as plain values."""
    names = ("image_size", "resize", "mode", "patch_size", "tokens", "strategy", "epochs", "seed")
    given = {name: getattr(options, name) for name in names} | sticker_options(options)
    if options.config is not None:
        given["config"] = config
    return given


def _save(model, path, card):
    import warnings

    from sklearn_patchcert.files.model_files import save

    with warnings.catch_warnings():  # callbacks are no part of a model
        warnings.filterwarnings("ignore", message="Left out of the file")
        save(model, path, card=card)


def _lines(card, seconds, path):
    if "accuracy" in card:
        low, high = card["accuracy_from_to"]
        yield (
            f"accuracy on {card['held_out']} held-out pictures: {100 * card['accuracy']:.1f} % "
            f"(95 % confidence: {100 * low:.1f} to {100 * high:.1f} %)"
        )
    if "mean_smallest_radius" in card:
        yield (
            f"patch radius (L2, units of 0..1): mean {card.get('mean_radius', math.inf):.4g}, mean "
            f"of the smallest of each image {card['mean_smallest_radius']:.4g}"
        )
    spent = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    yield f"time: {spent}"
    yield f"written: {shown(path)}"
