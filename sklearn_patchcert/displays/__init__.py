"""Pictures in the manner of scikit-learn's Display classes.

Radii, tokens and scores come in, and axes of matplotlib go out.
"""

from sklearn_patchcert.displays.certificates import CertificateDisplay
from sklearn_patchcert.displays.curves import CertifiedAccuracyDisplay, ParetoDisplay
from sklearn_patchcert.displays.stickers import StickerDisplay
from sklearn_patchcert.displays.usage import TokenUsageDisplay
from sklearn_patchcert.displays.vocabularies import VocabularyDisplay

__all__ = [
    "CertificateDisplay",
    "CertifiedAccuracyDisplay",
    "ParetoDisplay",
    "StickerDisplay",
    "TokenUsageDisplay",
    "VocabularyDisplay",
]
