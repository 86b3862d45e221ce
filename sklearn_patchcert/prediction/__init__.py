"""From the map of a vocabulary to the prediction of the whole image.

`image_certificates` goes through the token assignments of an image from the cheapest on
(`token_costs`, `configurations`, `search`) and asks the steps after the vocabulary for their class,
as far as rounding lets them answer (`answers`).  `committee` lets several pipelines vote.
`masking` hides parts of the image from any classifier or regressor, against stickers.
"""

from sklearn_patchcert.prediction.committee import CertifiedCommittee
from sklearn_patchcert.prediction.configurations import certify_configurations, wall_costs
from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
from sklearn_patchcert.prediction.masking.masks import covering_masks
from sklearn_patchcert.prediction.masking.regressor import StickerCertifiedRegressor
from sklearn_patchcert.prediction.masking.rounds import double_masking
from sklearn_patchcert.prediction.stickers import certify_stickers, touched
from sklearn_patchcert.prediction.voting import committee_radius, plurality

__all__ = [
    "CertifiedCommittee",
    "StickerCertifiedClassifier",
    "StickerCertifiedRegressor",
    "certify_configurations",
    "certify_stickers",
    "committee_radius",
    "covering_masks",
    "double_masking",
    "plurality",
    "touched",
    "wall_costs",
]
