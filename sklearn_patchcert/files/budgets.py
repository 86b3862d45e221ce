"""What one file may take: bytes of memory, and estimators that hold estimators."""

from __future__ import annotations

import math

from sklearn_patchcert.files.archive import ModelFileError

MOST_LEVELS = 16  # of lists, tuples and dicts in each other
MOST_ESTIMATORS = 8  # in each other; scikit-learn's repr takes twice the time for each level
_REPRS = 2**14  # of single estimators, of which the repr of a model is made: some seconds
_TIMES, _FLOOR = 32, 2**26  # bytes made of a file: times its size, and these besides
_OF_A_VALUE = 64  # bytes that Python takes for a small one


class Supply:
    """The arrays of a file, handed out as copies, while its budget lasts.

    An array is kept once and copied for each reference to it, so a short list of references could
    fill the memory.  Every copy and every value is counted.

    Parameters
    ----------
    arrays : dict of str to ndarray
    size : int
        Bytes of the file.
    max_bytes : int or None
        Of what may be made of it, besides a multiple of its size.

    Attributes
    ----------
    used : set of str
        Names of the arrays that were asked for.
    """

    def __init__(self, arrays, size=0, max_bytes=None, modules=None):
        self.modules = dict(modules or {})
        self.arrays, self.used = arrays, set()
        own = _TIMES * size + _FLOOR
        self.limit = own if max_bytes is None else min(own, max_bytes)
        self.remedy = "" if self.limit == own else ": pass a larger max_bytes if you expect it"
        self._left, self._reprs = self.limit, _REPRS

    def spend(self, count=_OF_A_VALUE):
        """Count bytes before they are taken.

        Parameters
        ----------
        count : int

        Raises
        ------
        ModelFileError
            If there are none left.
        """
        self._left -= count
        if self._left < 0:
            raise ModelFileError(
                f"The file describes values of more than {self.limit} bytes{self.remedy}."
            )

    def take(self, name):
        """Copy of an array.

        Parameters
        ----------
        name : str

        Returns
        -------
        array : ndarray
        """
        array = self.arrays[name]
        # An axis of length 0 makes no array small for those who go through the others.
        self.spend(math.prod(max(1, length) for length in array.shape) * array.itemsize)
        self.used.add(name)
        return array.copy()

    def enter(self, level):
        """Count an estimator, and how deep it is in others.

        Parameters
        ----------
        level : int
            1 for the model.

        Raises
        ------
        ModelFileError
            If it is too deep, or there are too many.
        """
        if level > MOST_ESTIMATORS:
            raise ModelFileError(
                f"The file describes estimators in estimators, more than {MOST_ESTIMATORS} levels "
                "of them."
            )
        self._reprs -= 2**level
        if self._reprs < 0:
            raise ModelFileError("The file describes too many estimators in estimators.")
