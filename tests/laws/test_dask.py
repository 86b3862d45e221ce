"""On a cluster of two workers everything is as it is at home, to the last bit."""

import joblib
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.outofcore.certification import certify_to
from sklearn_patchcert.scorers.functions import patch_certificate
from sklearn_patchcert.smoothing import classifier
from sklearn_patchcert.vocabulary import tokenizer

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Of a cluster of two workers.

    They are threads, as processes take seconds to import torch.  Over TCP all work is pickled even
    so; that it runs in a process of its own is what the backend loky of test_parallel shows.
    """
    from distributed import Client, LocalCluster

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


def searched(X, y):
    model = CertifiedPatchClassifier(
        [
            ("vocab", PatchVocabulary(patch_size=4, random_state=0)),
            ("clf", PatchNetClassifier(max_epochs=1, random_state=0)),
        ]
    )
    search = GridSearchCV(
        model,
        {"vocab__n_tokens": [4, 6]},
        cv=2,
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit="accuracy",
        error_score="raise",
    )
    return search.fit(X, y)


@pytest.mark.slow
def test_the_same_bits_as_at_home(client, digits, monkeypatch, tmp_path):
    import dask.array as da

    monkeypatch.setattr(tokenizer, "_VALUES_AT_ONCE", 64 * 50)  # several parts of little data
    monkeypatch.setattr(classifier, "_COPIES_AT_ONCE", 200)
    X, y = digits[0][:120].astype(np.float32), digits[1][:120]
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    model = searched(X, y).best_estimator_
    smooth = SmoothedClassifier(FrozenEstimator(model), 1.0, n=100, batch_size=100, random_state=0)

    def search():
        found = searched(X, y)
        scores = {k: v for k, v in found.cv_results_.items() if "test" in k}
        best = found.best_estimator_
        return {**scores, "tokens": best[0].vocabulary_, "proba": best.predict_proba(X)}

    def out_of_core(name, images):
        def run():
            return {"radii": certify_to(model, images, tmp_path / name, chunk_size=60)}

        return run

    work = {
        "search": search,
        "certify": lambda: {"radii": model.certify(mapped), "batches": model.certify(iter([X, X]))},
        "transform": lambda: {"images": model[0].transform(X)},
        "enumeration": lambda: model.certify_prediction(X[:6], max_configurations=30),
        "stickers": lambda: model.certify_prediction(X[:3], norm="sticker", max_configurations=30),
        "smoothing": lambda: dict(enumerate(smooth.fit(X, y).certify(X[:6]))),
        "Dask arrays": out_of_core("dask.npy", da.from_array(X, chunks=(30, 64))),
    }
    workers: set = set()
    for name, do in work.items():
        expected = do()
        if name == "Dask arrays":
            (tmp_path / "dask.npy").unlink()
        with (
            distributed.get_task_stream(client) as tasks,
            joblib.parallel_config(backend="dask"),
        ):
            found = do()
        for key, values in expected.items():
            np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(values), err_msg=name)
        assert tasks.data, f"{name}: nothing reached the cluster"
        workers |= {task["worker"] for task in tasks.data}
    assert len(workers) == 2

    bad = np.where(np.arange(120)[:, None] == 100, np.nan, X)
    with joblib.parallel_config(backend="dask"), pytest.raises(ValueError, match="NaN"):
        model.certify(bad)
