"""The same calls on many machines
===============================

A cluster needs no change to a model.  A Client and joblib's ``parallel_config`` are enough for a
search, certificates and smoothing.  Here the cluster is two processes on this machine.  Use
``Client("scheduler-address:8786")`` for a real one.  The script computes everything without the
cluster first, and every number from the cluster must be equal, to the last bit.  Digits are far too
small for a cluster to pay off, so look at the answers and not at the times. ::

    pip install -e ".[dask]" && python examples/dask_cluster.py
"""

# sphinx_gallery_thumbnail_path = "images/dask_cluster.png"

import time

import joblib
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from sklearn_patchcert import CertifiedPatchClassifier, SmoothedClassifier
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.scorers import patch_certificate


def everything(data):
    """A search and three certificates of the best model."""
    start = time.perf_counter()
    model = CertifiedPatchClassifier().set_params(
        vocab__patch_size=4, vocab__random_state=0, clf__max_epochs=3, clf__random_state=0
    )
    search = GridSearchCV(
        model,
        {"vocab__n_tokens": [8, 16]},
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit="accuracy",
        cv=2,
        error_score="raise",
    ).fit(data.X_train, data.y_train)
    best, few = search.best_estimator_, data.X_test[:8]
    smoothed = SmoothedClassifier(best, sigma=1.0, n=1000, random_state=0)
    found = {
        "accuracies of the search": search.cv_results_["mean_test_accuracy"],
        "mean radii of the search": search.cv_results_["mean_test_radius"],
        "radii of all patches": best.certify(data.X_test),
        "radii of predictions": best.certify_prediction(few, max_configurations=1000).radius,
        "radii of smoothing": smoothed.fit(data.X_train, data.y_train).certify(few)[1],
    }
    print(f"{time.perf_counter() - start:6.1f} s")
    return found


def main():
    from dask.distributed import Client, LocalCluster

    # This process works, too.  With one thread it leaves the cores to the workers.
    torch.set_num_threads(1)
    data = load_images("digits")
    print("without a cluster", end="")
    alone = everything(data)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        print("on two workers, which start first", end="")
        shared = everything(data)
    for name, values in alone.items():
        assert np.array_equal(values, shared[name]), f"{name} differ on the cluster"
        print(f"{name}: {values.size} numbers, the same to the last bit")


if __name__ == "__main__":  # needed: workers import this file
    main()
