"""Image robustness that can be proved, patch by patch, for scikit-learn."""

from sklearn_patchcert._version import __version__
from sklearn_patchcert.archive import ModelFileError
from sklearn_patchcert.classifier import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.committee import CertifiedCommittee
from sklearn_patchcert.curves import CertifiedAccuracyDisplay, ParetoDisplay
from sklearn_patchcert.persistence import load, save
from sklearn_patchcert.pipeline import CertifiedPatchClassifier, CertifiedPatchRegressor
from sklearn_patchcert.plotting import CertificateDisplay
from sklearn_patchcert.preprocessing import ChannelStandardizer
from sklearn_patchcert.smoothed import SmoothedClassifier
from sklearn_patchcert.vocabulary import PatchVocabulary
from sklearn_patchcert.vocabulary_display import TokenUsageDisplay, VocabularyDisplay

__all__ = [
    "CertificateDisplay",
    "CertifiedAccuracyDisplay",
    "CertifiedCommittee",
    "CertifiedPatchClassifier",
    "CertifiedPatchRegressor",
    "ChannelStandardizer",
    "ModelFileError",
    "ParetoDisplay",
    "PatchNetClassifier",
    "PatchNetRegressor",
    "PatchVocabulary",
    "SmoothedClassifier",
    "TokenUsageDisplay",
    "VocabularyDisplay",
    "__version__",
    "load",
    "save",
]
