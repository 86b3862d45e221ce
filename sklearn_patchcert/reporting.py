"""write_report: a page about a classifier and its certificates on some images."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import of_torch
from sklearn_patchcert.checks import check_count
from sklearn_patchcert.datasets.readers import is_images, paths_of, reader_of
from sklearn_patchcert.displays.inputs import check_labels
from sklearn_patchcert.displays.report.cards import steps_card
from sklearn_patchcert.displays.report.rendering import report_page
from sklearn_patchcert.displays.report.reports import content_of
from sklearn_patchcert.pipeline import CertifiedPatchClassifier
from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
from sklearn_patchcert.whole_files import check_place, replacing

_NORMS = ("l2", "linf", "l1")
_WHOLE_NORMS = ("l2", "linf")


def write_report(
    model: CertifiedPatchClassifier | StickerCertifiedClassifier,
    X: Any,
    y: ArrayLike | None = None,
    path: str | os.PathLike[str] = "report.html",
    *,
    names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    norm: str = "l2",
    whole_image: bool | Mapping[str, Any] = False,
    units: str = "units of X",
    title: str | None = None,
    max_images: int = 12,
    max_thumbnails: int = 1000,
    skipped: Mapping[str, str] | None = None,
    verbose: bool = False,
) -> Bunch:
    """Write a page about a fitted classifier and its certificates on some images.

    The page is one HTML file that loads nothing from a network.  It shows the accuracy with its
    confidence interval, the certified accuracy at every radius, the radii, the weakest and the
    strongest images under their maps, the vocabulary, a table of all images, and the options of
    the model.  The same input gives the same file, byte for byte.

    Parameters
    ----------
    model : fitted CertifiedPatchClassifier or StickerCertifiedClassifier
        Of a classifier with masks, the page shows the certified accuracy against stickers and the
        places of images, besides.  If it masks pixels, there are no patch radii.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or of paths (n,)
        Images that the model was not trained on.  Paths are for a model that begins with an
        :class:`ImageReader`.
    y : array-like (n,) or None, default=None
        Labels, in the words of `model.classes_`.  None: the page shows radii without accuracies.
    path : path-like, default="report.html"
        The file to write.  It is replaced at once when the page is whole.
    names : sequence of str (n,) or None, default=None
        Names of the images, as file names.  None: the paths if X has paths, or else numbers.
    target_names : sequence of str (n_classes,) or None, default=None
        Names of `model.classes_`, in their order.  None: the classes themselves.
    norm : {"l2", "linf", "l1"}, default="l2"
        Norm of the perturbations.
    whole_image : bool or dict, default=False
        Whether to certify the prediction of each image as a whole, too, which takes up to minutes
        per image.  A dict holds options of
        :meth:`CertifiedPatchClassifier.certify_prediction`, such as ``{"max_seconds": 1.0}``, or
        ``{"previous": ...}`` for a result that is already computed.
    units : str, default="units of X"
        Units of the values of X and of the radii, as "gray levels".
    title : str or None, default=None
        Heading of the page.
    max_images : int, default=12
        Largest number of weakest images, and of strongest images, that are drawn with their maps.
    max_thumbnails : int, default=1000
        Largest number of images that the table shows as small pictures, the weakest first.
    skipped : dict of str to str or None, default=None
        Why files were left out, by name, as :func:`datasets.load_image_folder` returns it.
    verbose : bool, default=False
        Whether to report progress on standard error.

    Returns
    -------
    report : Bunch
        ``path``; ``n_images``; ``accuracy`` and ``accuracy_interval``, its 95% interval of Clopper
        and Pearson, or None without labels; ``prediction`` (n,); ``smallest`` and ``mean`` (n,),
        radii of the patches of each image in units of X, or None; ``whole`` (n,), the certified
        radius of each prediction, or None; ``weakest`` and ``strongest``, the indices of the images
        that are drawn; ``skipped``, a dict; ``stickers``, a Bunch of ``certified`` (n,) and
        ``shares`` (n,) of certified places, or None.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If the model is neither: maps of vocabularies and regressors are drawn by
        :class:`CertificateDisplay`.
    ValueError
        If an option is out of range, or X, y and names do not fit each other or the model.
    OSError
        If the folder of the file is not there.

    See Also
    --------
    scorers.robustness_report : Accuracy under attacks, as a table.
    CertificateDisplay : Maps and histograms in matplotlib.

    Notes
    -----
    Radii on the page are rounded down.  The sum of the patch radii is not shown, because it is not
    a radius.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import CategoricalNB
    >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, write_report
    >>> X, y = load_digits(return_X_y=True)
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", output="ids", random_state=0)
    >>> model = CertifiedPatchClassifier(
    ...     [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    ... ).fit(X[:500], y[:500])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_report(model, X[500:600], y[500:600], pathlib.Path(folder) / "page.html")
    >>> report.smallest.shape, report.n_images
    ((100,), 100)
    """
    path = Path(path)
    whole_options = _checked(model, path, norm, whole_image)
    max_images = check_count("max_images", max_images)
    max_thumbnails = check_count("max_thumbnails", max_thumbnails, least=0)
    skipped = {str(name): str(why) for name, why in (skipped or {}).items()}
    tell = _teller(verbose)

    card_of = model
    model, X, y, names = _images(model, X, y, names, skipped)
    names, labels = _checked_rows(model, X, y, names)
    name_of = _labels(model, target_names)
    masked = isinstance(model, StickerCertifiedClassifier)
    tell(f"{len(X)} images: {'certificates against stickers' if masked else 'patch radii'}")
    stickers, whole = None, None
    if masked:
        stickers = model.certify(X, norm=norm)
        radii, prediction = stickers.radii, np.asarray(stickers.prediction)
    else:
        radii, prediction = np.asarray(model.certify(X, norm=norm)), np.asarray(model.predict(X))
    if prediction.ndim != 1:
        raise ValueError(f"A report is about one label per image, got {prediction.shape[1:]}.")
    if whole_options is not None:
        tell("certified radii of whole images")
        whole = model.certify_prediction(X, norm=norm, **whole_options)
        sure = whole.prediction == prediction
        whole = Bunch(radius=np.where(sure, whole.radius, 0.0), limited=whole.limited)
    tell("drawing the page")
    steps, vocabulary = _vocabulary_of(model)
    shape = getattr(model if masked else vocabulary, "image_shape_", None)
    shape = shape or vocabulary._check(X[:1]).shape[1:]
    given = None if stickers is None else _of_stickers(model, stickers)
    content, numbers = content_of(
        images=np.asarray(of_torch(X)).reshape(-1, *shape),
        maps=None if radii is None else radii.min(-1) if radii.ndim == 4 else radii,
        radii=None if radii is None else radii.reshape(len(radii), -1),
        names=names,
        prediction=[name_of(one) for one in prediction.tolist()],
        labels=None if labels is None else [name_of(one) for one in labels.tolist()],
        right=None if labels is None else prediction == labels,
        whole=whole,
        tokens=None
        if vocabulary is None
        else (vocabulary.vocabulary_, vocabulary.token_counts_, vocabulary.patch_size_),
        classes=[name_of(one) for one in model.classes_.tolist()],
        unknown=0 if labels is None else int((~np.isin(labels, model.classes_)).sum()),
        norm=norm,
        units=units,
        title="Certified patches: report" if title is None else str(title),
        max_images=max_images,
        max_thumbnails=max_thumbnails,
        steps=steps_card(card_of),
        scaled=bool(steps),
        versions=_versions(),
        skipped=skipped,
        stickers=given,
    )
    numbers["stickers"] = given and Bunch(certified=given["certified"], shares=given["shares"])
    page = report_page(content).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(page)
    tell(f"wrote {path}, {len(page) / 1e6:.1f} MB")
    return Bunch(path=path, n_images=len(X), prediction=prediction, skipped=skipped, **numbers)


def _checked(model, path, norm, whole_image):
    """The options of certify_prediction, or None; what is out of range is refused at once."""
    if not isinstance(model, CertifiedPatchClassifier | StickerCertifiedClassifier):
        raise TypeError(
            "write_report takes a fitted CertifiedPatchClassifier or StickerCertifiedClassifier, "
            f"got {type(model).__name__}: of a search pass best_estimator_; maps of vocabularies "
            "and regressors are drawn by CertificateDisplay."
        )
    check_is_fitted(model)
    if norm not in _NORMS:
        raise ValueError(f"norm must be one of {_NORMS}, got {norm!r}.")
    check_place(path)
    if whole_image is False or whole_image is None:
        return None
    if isinstance(model, StickerCertifiedClassifier):
        raise ValueError(
            "whole_image is for a CertifiedPatchClassifier: a model that decides by double masking "
            "has a certificate against stickers, and no radius of the whole image."
        )
    if norm not in _WHOLE_NORMS:
        raise ValueError(f"whole_image is for norm {' or '.join(_WHOLE_NORMS)}, got {norm!r}.")
    options = {} if whole_image is True else whole_image
    if not isinstance(options, Mapping):
        raise TypeError(f"whole_image must be a bool or a dict of options, got {whole_image!r}.")
    known = set(inspect.signature(CertifiedPatchClassifier.certify_prediction).parameters)
    known -= {"self", "X", "norm"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"whole_image has unknown options {unknown}; there are {sorted(known)}.")
    return dict(options)


def _images(model, X, y, names, skipped):
    """The model of images, and what it is given; a reader's files are read once, here."""
    first = _reader_of(model)
    if first is None or is_images(X):
        return model, X, y, names
    paths = paths_of(X)
    if names is None:
        names = _short(paths)
    for name, values in (("names", names), ("y", y)):
        if values is not None and len(values) != len(paths):
            raise ValueError(f"{name} has {len(values)} entries, X has {len(paths)} paths.")
    images, failed = first.read(paths)
    kept = [at for at in range(len(paths)) if at not in failed]
    for at, why in failed.items():
        skipped[str(names[at])] = why.removeprefix(f"{os.fspath(paths[at])}: ")
    y = y if y is None else np.asarray(y)[kept]
    if type(model) is CertifiedPatchClassifier:  # others may predict in their own way
        at = next(at for at, (_, step) in enumerate(model.steps) if reader_of([step]) is first)
        model = CertifiedPatchClassifier(model.steps[at + 1 :])
    return model, images, y, [names[at] for at in kept]


def _reader_of(model):
    """The reader of files at the beginning of a model, or of the pipeline inside it."""
    pipeline = getattr(model, "estimator_", model)
    return pipeline._reader() if hasattr(pipeline, "_reader") else None


def _vocabulary_of(model):
    """The steps before the vocabulary and the vocabulary, which may be None."""
    if not isinstance(model, StickerCertifiedClassifier):
        return model._split()
    view = model._view()
    return view.before, view.vocabulary


def _of_stickers(model, found):
    """What a page tells of certificates against stickers."""
    return {
        "certified": found.certified,
        "places": found.places,
        "shares": found.places.mean((1, 2)),
        "sizes": model._sticker_sizes(),
        "n_stickers": model.n_stickers,
        "cell": model.cell_size_,
        "tokens": model.mask_space_ == "tokens",
        "n_masks": len(model.masks_),
        "n_predictions": float(found.n_predictions.mean()),
    }


def _short(paths):
    """Paths without the folder that all of them are in."""
    texts = [os.fspath(path) for path in paths]
    folders = {os.path.dirname(os.path.abspath(text)) for text in texts}
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # several drives
        return texts
    return [os.path.relpath(os.path.abspath(text), common) for text in texts]


def _checked_rows(model, X, y, names):
    """Names and labels, one for each image."""
    n = len(X)
    if n == 0:
        raise ValueError("X has no images: a report needs at least one.")
    names = [str(at) for at in range(n)] if names is None else [os.fsdecode(one) for one in names]
    if len(names) != n:
        raise ValueError(f"names has {len(names)} entries, X has {n} images.")
    if y is None:
        return names, None
    y = np.asarray(y)
    if y.shape != (n,):
        raise ValueError(f"y must have the shape ({n},), a label for each image, got {y.shape}.")
    check_labels(y, model.classes_)
    return names, y


def _labels(model, target_names):
    """Function that tells the name of a label."""
    classes = model.classes_.tolist()
    target_names = classes if target_names is None else target_names
    if len(target_names) != len(classes):
        raise ValueError(
            f"target_names has {len(target_names)} entries, the model has {len(classes)} classes."
        )
    table = dict(zip(classes, map(str, target_names), strict=True))

    def name(label):
        return table.get(label, str(label))

    return name


def _versions():
    import sklearn
    import torch

    from sklearn_patchcert._version import __version__

    return {
        "sklearn_patchcert": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "Python": ".".join(map(str, sys.version_info[:3])),
    }


def _teller(verbose):
    def tell(text):
        if verbose:
            print(f"write_report: {text}", file=sys.stderr, flush=True)

    return tell
