"""What the tests of work in chunks share."""

import numpy as np

from sklearn_patchcert import PatchVocabulary

N, CHUNK = 60, 8


def some_images():
    return np.random.default_rng(0).random((N, 8, 8)).astype(np.float32)


def some_tokens():
    tokens = np.random.default_rng(1).random((6, 16)).astype(np.float32)
    return PatchVocabulary.from_tokens(tokens, patch_size=4, image_shape=(8, 8))


class Sliceable:
    """An array that knows nothing but shape, dtype and slices, and counts what it is asked for."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.asked.append((rows.start, rows.stop))
        return self.array[rows]


def everything(folder):
    """All files below a folder, but for records and locks, and their bytes."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    files = [file for file in files if file.suffix not in (".progress", ".lock")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
