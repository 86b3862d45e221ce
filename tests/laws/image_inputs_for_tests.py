"""Models, and all public functions that take images, by name."""

import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.attacks import run_attack, run_sticker_attack
from sklearn_patchcert.displays import (
    CertificateDisplay,
    CertifiedAccuracyDisplay,
    TokenUsageDisplay,
    VocabularyDisplay,
)
from sklearn_patchcert.outofcore import certify_to
from sklearn_patchcert.scorers import (
    certified_accuracy,
    patch_certificate,
    robustness_report,
    smoothing_accuracy,
)

N, HEIGHT, WIDTH = 6, 16, 20
LABELS = np.arange(N) % 2


def images():
    return np.random.default_rng(0).integers(0, 256, (N, HEIGHT, WIDTH, 3), dtype=np.uint8)


def vocabulary():
    return PatchVocabulary(4, 4, strategy="kmeans", max_iter=1, random_state=0)


def net(kind=PatchNetClassifier):
    return kind(max_epochs=1, module__width=2, module__hidden=2, random_state=0)


def classifier(*before):
    last = ("clf", net())
    return CertifiedPatchClassifier([*before, ("vocab", vocabulary()), last])


def regressor():
    return CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", net(PatchNetRegressor))])


def scaled():
    return classifier(("scale", ChannelStandardizer()))


def smoothed():
    return SmoothedClassifier(net(), sigma=1.0, n0=2, n=4, random_state=0)


def committee():
    def member():
        return CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", DummyClassifier())])

    return CertifiedCommittee([("one", member()), ("two", member())])


def stickers(make=net):
    return StickerCertifiedClassifier(make(), 1, n_masks=2)


MODELS = {
    "vocabulary": vocabulary,
    "standardizer": ChannelStandardizer,
    "network": net,
    "regression": partial(net, PatchNetRegressor),
    "classifier": classifier,
    "scaled": scaled,
    "regressor": regressor,
    "smoothed": smoothed,
    "committee": committee,
    "stickers": stickers,
    "stickers on tokens": partial(stickers, classifier),
}


@cache
def fitted(name):
    return MODELS[name]().fit(images(), LABELS)


def certify_into_a_file(model, X):
    with tempfile.TemporaryDirectory() as folder:
        try:
            return np.array(certify_to(model, X, Path(folder) / "radii.npy"))
        except Exception:
            assert not list(Path(folder).iterdir())  # a refusal leaves nothing
            raise


def entry(name, method, *args, **options):
    return lambda X: getattr(fitted(name), method)(X, *args, **options)


def function(call, name, *args, **options):
    return lambda X: call(fitted(name), X, *args, **options)


FITS = {name: (lambda X, make=make: make().fit(X, LABELS)) for name, make in MODELS.items()}
FITS["partial"] = lambda X: vocabulary().partial_fit(X)
FITS["partial network"] = lambda X: net().partial_fit(X, LABELS)
FITS["fit_transform"] = lambda X: vocabulary().fit_transform(X)

STREAMS = {  # which take an iterator of batches on purpose
    "vocabulary.certify": entry("vocabulary", "certify"),
    "vocabulary.tokenize": entry("vocabulary", "tokenize"),
    "classifier.certify": entry("classifier", "certify"),
    "scaled.certify": entry("scaled", "certify"),
    "regressor.certify": entry("regressor", "certify"),
    "VocabularyDisplay": function(VocabularyDisplay.from_estimator, "vocabulary"),
    "TokenUsageDisplay": function(TokenUsageDisplay.from_estimator, "vocabulary"),
}
ASKS = {
    **STREAMS,
    "vocabulary.transform": entry("vocabulary", "transform"),
    "vocabulary.partial_fit": lambda X: vocabulary().fit(images()).partial_fit(X),
    "stickers.predict": entry("stickers", "predict"),
    "stickers.certify": entry("stickers", "certify"),
    "stickers on tokens.predict": entry("stickers on tokens", "predict"),
    "stickers on tokens.certify": entry("stickers on tokens", "certify"),
    "standardizer.transform": entry("standardizer", "transform"),
    "standardizer.inverse_transform": entry("standardizer", "inverse_transform"),
    "network.predict": entry("network", "predict"),
    "network.predict_proba": entry("network", "predict_proba"),
    "network.score": entry("network", "score", LABELS),
    "regression.predict": entry("regression", "predict"),
    "classifier.predict": entry("classifier", "predict"),
    "classifier.predict_proba": entry("classifier", "predict_proba"),
    "classifier.score": entry("classifier", "score", LABELS),
    "classifier.certify_prediction": entry(
        "classifier", "certify_prediction", max_configurations=2
    ),
    "scaled.predict": entry("scaled", "predict"),
    "scaled.certify_prediction": entry("scaled", "certify_prediction", max_configurations=2),
    "regressor.predict": entry("regressor", "predict"),
    "smoothed.predict": entry("smoothed", "predict"),
    "smoothed.certify": entry("smoothed", "certify"),
    "smoothed.score": entry("smoothed", "score", LABELS),
    "committee.predict": entry("committee", "predict"),
    "committee.certify_prediction": entry("committee", "certify_prediction", max_configurations=2),
    "certify_to": partial(certify_into_a_file, fitted("vocabulary")),
    "certify_to scaled": partial(certify_into_a_file, fitted("scaled")),
    "run_attack": function(run_attack, "classifier", LABELS, "noise", eps=1.0),
    "run_sticker_attack": function(
        run_sticker_attack, "classifier", LABELS, 2, steps=1, n_places=1
    ),
    "robustness_report": function(robustness_report, "classifier", LABELS, eps=1.0),
    "patch_certificate": function(patch_certificate, "classifier"),
    "certified_accuracy": function(
        certified_accuracy, "classifier", LABELS, radius=1.0, max_configurations=2
    ),
    "smoothing_accuracy": function(smoothing_accuracy, "classifier", LABELS, sigma=1.0, n=4),
    "CertificateDisplay": function(CertificateDisplay.from_estimator, "classifier"),
    "CertifiedAccuracyDisplay": function(
        CertifiedAccuracyDisplay.from_estimator, "classifier", LABELS, max_configurations=2
    ),
}
