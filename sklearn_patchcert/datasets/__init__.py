"""Images to start from: your own pictures, and benchmark data sets.

Files go through one reader, :class:`ImageReader`, which is also a step of a pipeline; benchmark
data sets are cached in scikit-learn's data home.
"""

from sklearn_patchcert.datasets.benchmarks import load_images
from sklearn_patchcert.datasets.folders import load_image_folder
from sklearn_patchcert.datasets.readers import ImageReader

__all__ = ["ImageReader", "load_image_folder", "load_images"]
