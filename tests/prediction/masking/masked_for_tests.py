"""Small classifiers that the tests of masks share."""

from sklearn.linear_model import LogisticRegression

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary


def tokens(clf=None, **options):
    options = {"n_tokens": 8, "patch_size": 2, "strategy": "kmeans", "random_state": 0, **options}
    clf = LogisticRegression(C=0.1) if clf is None else clf
    return CertifiedPatchClassifier([("vocab", PatchVocabulary(**options)), ("clf", clf)])


def small_net(**options):
    small = {"max_epochs": 1, "module__width": 4, "module__hidden": 8, "random_state": 0}
    return PatchNetClassifier(**{**small, **options})
