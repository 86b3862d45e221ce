"""Labeled pictures: a folder whose subfolders are the classes of a model."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from sklearn_patchcert.cli.finding import below
from sklearn_patchcert.cli.options import Impossible, shown
from sklearn_patchcert.datasets.folders import find_classes


def labeled(folder, own, left_out, *, n_images=None, seed=0, look=None):
    """Images and labels of a folder, as a model takes them.

    Parameters
    ----------
    folder : Path
    own : Opened
    left_out : LeftOut
    n_images : int or None
        Draw so many; None: all.
    seed : int
    look : callable or None
        Is given the files before they are read.

    Returns
    -------
    data : Bunch
        X, y, names, files

    Raises
    ------
    Impossible
        If the folders are not the classes of the model, or nothing can be read.
    """
    classes = getattr(own.model, "classes_", None)
    if classes is None:
        raise Impossible(f"the model is a {type(own.model).__name__}, which knows no classes")
    try:
        paths, target, class_names, skipped = find_classes(folder)
    except ValueError as error:
        raise Impossible(error) from None
    known = {str(label): label for label in classes.tolist()}
    unknown = [name for name in class_names if name not in known]
    if unknown:
        raise Impossible(
            f"the model knows the classes {', '.join(map(shown, known))}, and {shown(folder)} has "
            f"the subfolders {', '.join(map(shown, unknown))}: their names must be the same"
        )
    for name, why in skipped.items():
        left_out.add(below(name, folder), why)
    chosen = np.arange(len(paths))
    if n_images is not None and n_images < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), n_images, replace=False))
    files = {below(paths[at], folder): folder / below(paths[at], folder) for at in chosen}
    labels = {below(paths[at], folder): known[class_names[target[at]]] for at in chosen}
    own.check(files)
    if look is not None:
        look(files)
    names, images = [], []
    with left_out.progress(len(files), "reading") as bar:
        for name, X in own.each(files, left_out):
            names.append(name)
            images.append(X)
            bar.update()
    if not images:
        raise Impossible("none of the pictures can be read")
    if len({X.shape for X in images}) > 1:
        raise Impossible("the pictures have several sizes, and the model does not know its own")
    y = np.array([labels[name] for name in names])
    return Bunch(X=np.concatenate(images), y=y, names=names, files=files)
