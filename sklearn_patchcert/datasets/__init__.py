"""Images to start from: benchmark data sets, cached in scikit-learn's data home."""

from sklearn_patchcert.datasets.benchmarks import load_images

__all__ = ["load_images"]
