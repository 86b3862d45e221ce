"""The largest radius above a floor of accuracy
============================================

A GridSearchCV with several scores searches over a certified pipeline and the options of its
vocabulary.  With `memory`, each vocabulary is fitted once per fold and shared by all classifiers.
Among the candidates whose accuracy reaches a floor, the one with the largest mean radius is
refitted.  The script prints the Pareto front of all candidates and draws it to search.png. ::

    python examples/search.py
"""

import tempfile
from functools import partial

from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GridSearchCV

from sklearn_patchcert import CertifiedPatchClassifier, ParetoDisplay, PatchVocabulary
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.model_selection import best_index
from sklearn_patchcert.scorers import min_patch_certificate, patch_certificate

data = load_images("digits")
X_train, X_test = (X.reshape(len(X), -1) for X in (data.X_train, data.X_test))  # forests need rows
FLOOR = 0.90
COMMON = {
    "vocab__strategy": ["learned"],
    "vocab__n_tokens": [16],
    "clf__max_features": ["sqrt", 0.5],
}

with tempfile.TemporaryDirectory() as memory:
    model = CertifiedPatchClassifier(
        [
            ("vocab", PatchVocabulary(patch_size=2, max_iter=2, random_state=0)),
            ("clf", ExtraTreesClassifier(50, random_state=0)),
        ],
        memory=memory,
    )
    one_at_a_time = [
        {"vocab__n_tokens": [8, 16]},
        {"vocab__strategy": ["kmeans"], "vocab__n_tokens": [8, 16, 32]},
        {"vocab__soft_temperature": [(1.0, 0.05)]},
        {"vocab__entropy_weight": [0.3]},
        {"vocab__structure_weight": [0.3]},
        {"vocab__noise_std": [2.0]},
        {"vocab__margin_weight": [3.0]},
    ]
    search = GridSearchCV(
        model,
        [{**COMMON, **one} for one in one_at_a_time],
        scoring={
            "accuracy": "accuracy",
            "radius": patch_certificate,
            "smallest_radius": min_patch_certificate,
        },
        refit=partial(best_index, maximize="radius", floors={"accuracy": FLOOR}),
        cv=2,
        error_score="raise",
    ).fit(X_train, data.y_train)

# %%
# The Pareto front
# ----------------
found = search.cv_results_
display = ParetoDisplay.from_cv_results(found, "radius", "accuracy", group_by="vocab__strategy")
print("Pareto front of accuracy and mean radius, on held-out folds:")
for index in display.front_:
    accuracy, radius = found["mean_test_accuracy"][index], found["mean_test_radius"][index]
    print(f"{100 * accuracy:6.2f} %  {radius:5.2f} gray levels  {found['params'][index]}")
display.figure_.savefig("search.png", dpi=100)

# %%
# The chosen candidate
# --------------------
best = search.best_estimator_
print(f"chosen, for at least {100 * FLOOR:.0f} % there: {search.best_params_}")
print(f"accuracy on the test images {100 * best.score(X_test, data.y_test):.2f} %")
print(f"mean radius {patch_certificate(best, X_test):.2f} gray levels")
assert found["mean_test_accuracy"][search.best_index_] >= FLOOR
