"""Small steps that the tests of pipelines share."""

from sklearn.base import clone

from sklearn_patchcert import PatchNetClassifier, PatchVocabulary


def vocabulary(**options):
    return PatchVocabulary(
        **{"n_tokens": 8, "patch_size": 3, "strategy": "kmeans", "random_state": 0, **options}
    )


def net(kind=PatchNetClassifier, **options):
    small = {"max_epochs": 1, "module__width": 8, "module__hidden": 16, "random_state": 0}
    return kind(**{**small, **options})


def clone_steps(steps):
    return [(name, clone(step)) for name, step in steps]
