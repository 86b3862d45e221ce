"""From the map of a vocabulary to the prediction of the whole image.

`image_certificates` goes through the token assignments of an image from the cheapest on
(`token_costs`, `configurations`, `search`) and asks the steps after the vocabulary for their class,
as far as rounding lets them answer (`answers`).  `committee` lets several pipelines vote.
"""

from sklearn_patchcert.prediction.committee import CertifiedCommittee
from sklearn_patchcert.prediction.configurations import certify_configurations, wall_costs
from sklearn_patchcert.prediction.stickers import certify_stickers, touched
from sklearn_patchcert.prediction.voting import committee_radius, plurality

__all__ = [
    "CertifiedCommittee",
    "certify_configurations",
    "certify_stickers",
    "committee_radius",
    "plurality",
    "touched",
    "wall_costs",
]
