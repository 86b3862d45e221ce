"""What a user may write, for ``mypy --strict`` to check: every door has types that fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_patchcert import (
    CertificateDisplay,
    CertifiedCommittee,
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    load,
    save,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.model_selection import best_index, pareto_front
from sklearn_patchcert.networks import PatchConvNet, random_crop
from sklearn_patchcert.outofcore import certify_to
from sklearn_patchcert.prediction import certify_configurations, committee_radius, touched
from sklearn_patchcert.smoothing import certified_radius, lower_bound
from sklearn_patchcert.vocabulary import Batch, denoise, reconstruction_loss
from sklearn_patchcert.voronoi import cell_costs, certify, tokenize, wall_distance


def keep_the_mean(batch: Batch) -> torch.Tensor:
    """A loss of one's own."""
    return reconstruction_loss(batch.images(batch.reconstruction), batch.images(batch.patches))


def maps(images: NDArray[np.float32], path: Path) -> NDArray[np.float64]:
    """From pictures to a file and a map."""
    vocabulary = PatchVocabulary(16, patch_size=4, loss=keep_the_mean).fit(denoise(images))
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", PatchNetClassifier())])
    save(model, path)
    CertificateDisplay.from_estimator(load(path), images).plot()
    certify_to(vocabulary, images, path.with_suffix(".npy"))
    radii: NDArray[np.float64] = vocabulary.certify(ChannelStandardizer().fit_transform(images))
    return radii


def patches(values: NDArray[np.float32], tokens: NDArray[np.float32]) -> float:
    """The certificate by itself."""
    ids, radii = certify(values, tokens, norm="linf")
    same, _, others = certify(values, tokens, return_witness=True)
    agree: np.bool_ = (ids == same).all() & (tokenize(values, tokens) == ids).all()
    free = cell_costs(values, tokens).min() == 0
    nearest = wall_distance(values[0, 0], tokens[ids[0, 0]], tokens[others[0, 0]])
    return nearest if agree and free else float(radii.min())


def votes(members: list[tuple[str, Any]], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Predictions of whole images."""
    committee = CertifiedCommittee(members)
    radius, exact, *_ = certify_configurations(lambda rows, ids: ids.sum(1) > 1, costs)
    first: NDArray[np.float64] = radius[exact]
    winners, _ = committee_radius(committee.predict(costs)[None], first[None], n_classes=2)
    return winners[: touched(5, (4, 4))[0]]


def baseline(scores: dict[str, list[float]]) -> int:
    """Smoothing, networks and searches."""
    smoothed = SmoothedClassifier(PatchNetClassifier(module=PatchConvNet), 0.5)
    data = load_images("digits")
    classes, _ = smoothed.fit(data.X_train, data.y_train).certify(data.X_test)
    radii = certified_radius(lower_bound([50, 99], n=100, alpha=0.001), sigma=0.5)
    images = random_crop(torch.zeros(2, 1, 8, 8), pixels=1)
    front = pareto_front(radii, classes[: len(radii)])
    return best_index(scores, maximize="radius", floors={}) + int(front.sum()) + len(images)
