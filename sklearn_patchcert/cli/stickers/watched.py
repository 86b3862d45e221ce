"""A model with masks that shows a bar over images while it certifies, and remembers them."""

from __future__ import annotations

import copy
import functools

import numpy as np
from sklearn.utils import Bunch

from sklearn_patchcert.cli.stickers.images import radii_of


def watched(model, data, left_out, journal):
    """A copy of a model whose `certify` shows how far it is, and goes on where it was interrupted.

    Parameters
    ----------
    model : fitted StickerCertifiedClassifier
    data : Bunch
        Of `labeled`.
    left_out : LeftOut
        Has the bar.
    journal : Journal

    Returns
    -------
    model : StickerCertifiedClassifier
    """
    again = copy.copy(model)
    again.certify = functools.partial(_certify, model, data, left_out, journal)
    return again


def _certify(model, data, left_out, journal, X, norm="l2"):
    rows = []
    with left_out.progress(len(X), "certifying against stickers") as bar:
        for name, image in zip(data.names, X, strict=True):
            row = journal.row(name)
            if row is None:
                found = model.certify(image[None], norm=norm)
                row = [found.prediction.tolist()[0], found.places[0].tolist()]
                row.append(int(found.n_predictions[0]))
                journal.add(name, row)
            rows.append(row)
            bar.update()
    prediction, maps, counts = zip(*rows, strict=True)
    places = np.array(maps, dtype=bool)
    return Bunch(
        prediction=np.array(prediction, dtype=model.classes_.dtype),
        certified=places.all((1, 2)),
        places=places,
        radii=radii_of(model, X, norm),
        n_predictions=np.array(counts),
    )
