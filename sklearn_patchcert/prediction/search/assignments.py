"""Token assignments of images, kept as the few patches in which they differ from others."""

from __future__ import annotations

import numpy as np


class Assignments:
    """Token assignments (m, positions) by where they differ from some others.

    Parameters
    ----------
    base : ndarray of int (k, positions)
        The others.
    of : ndarray of int (m,)
        From which of them each assignment differs.
    row, place, token : ndarray of int (c,)
        The differences, sorted by row: which assignment has another token, where, and which.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction.search.assignments import Assignments
    >>> one = np.array([1])
    >>> Assignments(np.array([[5, 6, 7]]), np.array([0, 0]), one, one, np.array([9])).whole()
    array([[5, 6, 7],
           [5, 9, 7]])
    """

    def __init__(self, base, of, row, place, token):
        self.base, self.of, self.row, self.place, self.token = base, of, row, place, token

    @classmethod
    def among(cls, ids, differ):
        """Of token ids (m, positions), and where they differ from the first, bool."""
        row, place = np.nonzero(differ)
        return cls(ids[:1].copy(), np.zeros(len(ids), np.int64), row, place, ids[row, place])

    @classmethod
    def joined(cls, parts):
        """Of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        bases = np.cumsum([0, *(len(part.base) for part in parts)])
        rows = np.cumsum([0, *map(len, parts)])
        of, row = (
            np.concatenate([getattr(part, name) + at for part, at in zip(parts, ats, strict=False)])
            for name, ats in (("of", bases), ("row", rows))
        )
        base, place, token = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("base", "place", "token")
        )
        return cls(base, of, row, place, token)

    def __len__(self):
        return len(self.of)

    def __getitem__(self, part):
        """The assignments of a slice."""
        begin, end, _ = part.indices(len(self))
        a, b = np.searchsorted(self.row, [begin, max(begin, end)])
        return Assignments(
            self.base, self.of[part], self.row[a:b] - begin, self.place[a:b], self.token[a:b]
        )

    def whole(self):
        """Token ids (m, positions)."""
        ids = self.base[self.of]
        ids[self.row, self.place] = self.token
        return ids
