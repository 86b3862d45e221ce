"""Image robustness that can be proved, patch by patch, for scikit-learn."""

from sklearn_patchcert._version import __version__
from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.displays.certificates import CertificateDisplay
from sklearn_patchcert.displays.curves import CertifiedAccuracyDisplay, ParetoDisplay
from sklearn_patchcert.displays.vocabularies import TokenUsageDisplay, VocabularyDisplay
from sklearn_patchcert.files.archive import ModelFileError
from sklearn_patchcert.files.model_files import load, save
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.pipeline import CertifiedPatchClassifier, CertifiedPatchRegressor
from sklearn_patchcert.prediction.committee import CertifiedCommittee
from sklearn_patchcert.preprocessing import ChannelStandardizer
from sklearn_patchcert.reporting import write_report
from sklearn_patchcert.smoothing.classifier import SmoothedClassifier
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

__all__ = [
    "CertificateDisplay",
    "CertifiedAccuracyDisplay",
    "CertifiedCommittee",
    "CertifiedPatchClassifier",
    "CertifiedPatchRegressor",
    "ChannelStandardizer",
    "ImageReader",
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
    "write_report",
]
