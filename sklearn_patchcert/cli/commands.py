"""The command `patchcert`: certificates of image files, for those who do not write Python."""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sklearn_patchcert._version import __version__
from sklearn_patchcert.cli.image_files import (
    SUFFIXES,
    check_apart,
    find_images,
    map_picture,
    read_image,
    write_npy,
    write_png,
)
from sklearn_patchcert.files.archive import MAX_BYTES, ModelFileError, clear_leftovers, replacing
from sklearn_patchcert.files.model_files import load

_EPILOG = """
For every image two files are written: NAME.radii.npy, the radius of every patch, and
NAME.radii.png, a picture of them in the size of the image, whose colors go from 0 (dark) to the
largest radius of the whole run (bright), which is printed at the end. statistics.csv has a line
for each image: the smallest of its radii, which is also the radius of the largest ball, in that
norm over the whole image, in which no patch changes; their mean; and their sum, which is a slack
statistic and no radius of anything.

Radii are in the units of the values that the model was trained on. Arrays (.npy) are taken to be
in these units. The values of a PNG file are whole numbers, 0..255 or 0..65535, and are divided by
--scale, so that is needed where there are PNG files: 1 for a model of 0..255, 255 for one of 0..1.
An image must have the size and the channels that the model knows; nothing is resized or converted.

Exit status: 0 if all went well; 1 if images were skipped, each of which is reported; 2 if nothing
could be done; 130 if interrupted. Whatever happens, every file is either whole or not there.
"""


class _Impossible(Exception):
    """Why nothing can be done, for the user to read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str or None
        None: those of the process.

    Returns
    -------
    status : int
        Of the process, as ``patchcert certify --help`` says.

    Examples
    --------
    In a shell: ``patchcert certify images/ --model model.patchcert --out maps/ --scale 255``.

    >>> from sklearn_patchcert.cli import main
    >>> main(["certify", "images/", "--model", "missing.patchcert", "--out", "maps/"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        return _certify(options)
    except (_Impossible, ModelFileError, OSError) as error:
        print(f"patchcert: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"patchcert: interrupted; what is in {options.out} is whole", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="patchcert", description="Image robustness that can be proved, patch by patch."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    certify = commands.add_parser(
        "certify",
        help="radii of all patches of images, and predictions",
        description="Write the certified radius of every patch of images, and predictions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = certify.add_argument
    add("images", nargs="+", type=Path, help="PNG and .npy files, or folders of them")
    add("--model", required=True, type=Path, help="a file that sklearn_patchcert.save wrote")
    add("--out", required=True, type=Path, help="the folder to write to; made if it is not there")
    add("--scale", type=_positive(float), help="what to divide the values of PNG files by")
    add("--norm", choices=("l2", "linf", "l1"), default="l2", help="inside a patch (default: l2)")
    add(
        "--configurations",
        type=_positive(int),
        metavar="N",
        help="also certify the prediction of each image as a whole, from so many configurations "
        "of tokens; classifiers and l2 or linf only",
    )
    add(
        "--batch-size",
        type=_positive(int),
        default=256,
        metavar="N",
        help="images at once (default: 256)",
    )
    add(
        "--max-bytes",
        type=_positive(int),
        default=MAX_BYTES,
        metavar="N",
        help=f"refuse a larger model file (default: {MAX_BYTES})",
    )
    add("--quiet", action="store_true", help="no progress bar and no summary")
    return parser


def _positive(kind):
    def number(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number


def _certify(options):
    model = load(options.model, max_bytes=options.max_bytes)
    vocabulary = _vocabulary(model)
    if options.configurations and not hasattr(model, "certify_prediction"):
        raise _Impossible(f"--configurations is for classifiers, not for a {_kind(model)}")
    if options.configurations and options.norm == "l1":
        raise _Impossible("--configurations knows the norms l2 and linf only")
    try:
        files = find_images(options.images, apart_from=options.out)
        written = [options.out / f"{name}.radii{end}" for name in files for end in SUFFIXES]
        written.append(options.out / "statistics.csv")
        check_apart([options.model, *files.values()], written)
    except ValueError as error:
        raise _Impossible(error) from None
    if not files:
        raise _Impossible("there are no .png and .npy files")
    if options.scale is None and any(path.suffix.lower() == ".png" for path in files.values()):
        raise _Impossible(
            "there are PNG files: say with --scale what their values are to be divided by, 1 for "
            "a model of 0..255, 255 for one of 0..1"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in {path.parent for path in written}:
        clear_leftovers(folder)
    done: list = []
    with tqdm(total=len(files), unit="image", disable=options.quiet, file=sys.stderr) as bar:

        def skip(name, error):
            tqdm.write(f"patchcert: skipped {name}: {_line(error)}", file=sys.stderr)
            bar.update()

        images = _read(files, options.scale, _shape(vocabulary), skip)
        for names, batch in _batches(images, options.batch_size):
            for name, size, radii, row in _results(model, vocabulary, names, batch, options, skip):
                write_npy(options.out / f"{name}.radii.npy", radii)
                done.append((name, size, row))
                bar.update()
    top = max((row["largest"] for _, _, row in done), default=0.0)
    for name, size, _ in done:
        path = options.out / f"{name}.radii"
        picture = map_picture(np.load(f"{path}.npy"), vocabulary.patch_size_, size, top)
        write_png(f"{path}.png", picture, brightest_radius=repr(top), norm=options.norm)
    _write_statistics(options.out / "statistics.csv", [row for _, _, row in done])
    if not options.quiet:
        print(
            f"patchcert: {len(done)} images certified, {len(files) - len(done)} skipped; the "
            f"brightest color is the {options.norm} radius {top:g}",
            file=sys.stderr,
        )
    return 0 if len(done) == len(files) else 1


def _kind(model):
    return type(model).__name__


def _line(error):
    """The first line of what an error says."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _vocabulary(model):
    """The vocabulary of a model that has maps."""
    if hasattr(model, "tokenize"):
        vocabulary = model
    elif hasattr(model, "certify") and hasattr(model, "_split"):
        try:
            _, vocabulary = model._split()
        except ValueError as error:
            raise _Impossible(error) from None
    else:
        raise _Impossible(
            f"the model is a {_kind(model)}, which has no map of radii: only vocabularies and "
            "certified pipelines have"
        )
    if not hasattr(vocabulary, "vocabulary_"):
        raise _Impossible("the model is not fitted")
    return vocabulary


def _shape(vocabulary):
    """(H, W, C) of an image; None where any will do."""
    return getattr(vocabulary, "image_shape_", (None, None, vocabulary._channels()))


def _read(files, scale, shape, skip):
    """Names and images, one after the other; those that cannot be read are skipped."""
    for name, path in files.items():
        try:
            image = read_image(path, scale, shape)
        except Exception as error:  # whatever a damaged file makes of its reader
            skip(name, error)
        else:
            yield name, image


def _batches(images, size):
    """Names and arrays of images that have the same shape and dtype."""

    def alike(pair):
        return pair[1].shape, pair[1].dtype

    for _, group in itertools.groupby(images, key=alike):
        while part := list(itertools.islice(group, size)):
            names, arrays = zip(*part, strict=True)
            yield names, np.stack(arrays)


def _results(model, vocabulary, names, images, options, skip):
    """Name, size, radii and statistics of each image; what the model refuses is skipped."""
    X = images.reshape(len(images), *getattr(vocabulary, "sample_shape_", images.shape[1:]))
    try:
        radii = model.certify(X, norm=options.norm)
        predicted = model.predict(X) if hasattr(model, "predict") else [""] * len(X)
        whole = None
        if options.configurations:
            whole = model.certify_prediction(
                X, norm=options.norm, max_configurations=options.configurations
            )
    except TypeError as error:  # of a step before the vocabulary: so it is for all images
        raise _Impossible(error) from None
    except ValueError as error:
        if len(names) > 1:  # which one is it?
            for index, name in enumerate(names):
                one = images[index : index + 1]
                yield from _results(model, vocabulary, [name], one, options, skip)
        else:
            skip(names[0], error)
        return
    for index, name in enumerate(names):
        found = radii[index]
        row = {
            "image": name,
            "prediction": _plain(predicted[index]),
            "norm": options.norm,
            "patches": found.size,
            "smallest_radius": float(found.min()),
            "mean_radius": float(found.mean()),
            "sum_slack_statistic": float(found.sum()),
        }
        if whole is not None:
            row["prediction_radius"] = float(whole.radius[index])
            row["prediction_radius_is_exact"] = bool(whole.exact[index])
        row["largest"] = float(found.max(initial=0.0, where=np.isfinite(found)))
        yield name, images.shape[1:3], found, row


def _plain(value):
    """A prediction as text: several numbers are separated by blanks."""
    return " ".join(map(str, np.ravel(value).tolist()))


def _write_statistics(path, rows):
    names = [name for name in rows[0] if name != "largest"] if rows else ["image"]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
