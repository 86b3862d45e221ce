"""Labeled pictures: a folder whose subfolders are the classes of a model."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from sklearn_patchcert.cli.inputs import below
from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.datasets.folders import find_classes


def labeled(folder, opened, left_out, *, n_images=None, seed=0):
    """Images and labels of a folder, as a model takes them.

    Parameters
    ----------
    folder : Path
    opened : Opened
    left_out : LeftOut
    n_images : int or None
        Draw so many; None: all.
    seed : int

    Returns
    -------
    data : Bunch
        X, y, names

    Raises
    ------
    Impossible
        If the folders are not the classes of the model, or nothing can be read.
    """
    try:
        paths, target, class_names, skipped = find_classes(folder)
    except ValueError as error:
        raise Impossible(error) from None
    for name, why in skipped.items():
        left_out.add(below(name, folder), why)
    classes = getattr(opened.model, "classes_", None)
    if classes is None:
        raise Impossible(f"the model is a {type(opened.model).__name__}, which knows no classes")
    known = {str(label): label for label in classes.tolist()}
    unknown = [name for name in class_names if name not in known]
    if unknown:
        raise Impossible(
            f"the model knows the classes {', '.join(known)}, and {folder} has the subfolders "
            f"{', '.join(unknown)}: their names must be the same"
        )
    chosen = np.arange(len(paths))
    if n_images is not None and n_images < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), n_images, replace=False))
    files = {below(paths[at], folder): paths[at] for at in chosen}
    labels = {below(paths[at], folder): known[class_names[target[at]]] for at in chosen}
    names, parts = [], []
    with left_out.progress(len(files), "reading"):
        for some, X in opened.batches(files, left_out):
            names += some
            parts.append(X)
            left_out.bar.update(len(some))
    if not parts:
        raise Impossible("none of the pictures can be read")
    if len({part.shape[1:] for part in parts}) > 1:
        raise Impossible("the pictures have several sizes, and the model does not know its own")
    y = np.array([labels[name] for name in names])
    return Bunch(X=np.concatenate(parts), y=y, names=names)
