"""A classifier that shows a bar over images while it works, and remembers what it found."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from sklearn_patchcert.cli.options import sharing
from sklearn_patchcert.pipeline import CertifiedPatchClassifier

_AT_ONCE = 16


class Watched(CertifiedPatchClassifier):
    """A fitted classifier that shows how far it is with the images of a report.

    Parameters
    ----------
    model : CertifiedPatchClassifier
    data : Bunch
        Of `labeled`.
    left_out : LeftOut
        Has the bar.
    journal : Journal
        For certificates of predictions, which take longest.
    """

    def __init__(self, model, data, left_out, journal):
        super().__init__(model.steps)
        self._model, self._data = model, data
        self._left_out, self._journal = left_out, journal

    def certify(self, X, norm="l2", *, return_witness=False):
        """Patch radii, some images at once."""
        return self._parts("certifying patches", X, lambda part: self._model.certify(part, norm))

    def predict(self, X):
        """Classes, some images at once."""
        return self._parts("predicting", X, self._model.predict)

    def certify_prediction(self, X, **options):
        """Radii of predictions, image by image."""
        rows: list = []
        left = sum(self._journal.row(name) is None for name in self._data.names)
        shares = sharing({"max_total_seconds": None, **options}, left)
        with self._left_out.progress(len(X), "certifying predictions") as bar:
            for name, image in zip(self._data.names, X, strict=True):
                row = self._journal.row(name)
                if row is None:
                    found = self._model.certify_prediction(image[None], **next(shares))
                    row = [found.prediction.tolist()[0], float(found.radius[0])]
                    row.append(bool(found.limited[0]))
                    self._journal.add(name, row)
                rows.append(row)
                bar.update()
        prediction, radius, limited = zip(*rows, strict=True)
        return Bunch(
            prediction=np.array(prediction, dtype=self.classes_.dtype),
            radius=np.array(radius),
            limited=np.array(limited),
        )

    def _parts(self, description, X, work):
        found = []
        with self._left_out.progress(len(X), description) as bar:
            for at in range(0, len(X), _AT_ONCE):
                found.append(work(X[at : at + _AT_ONCE]))
                bar.update(len(found[-1]))
        return np.concatenate(found)
