"""Image robustness that can be proved, patch by patch, for scikit-learn."""

from typing import TYPE_CHECKING

from sklearn_patchcert._lazy import attach
from sklearn_patchcert._version import __version__

if TYPE_CHECKING:
    from sklearn_patchcert.composition import certify
    from sklearn_patchcert.datasets.readers import ImageReader
    from sklearn_patchcert.displays.certificates import CertificateDisplay
    from sklearn_patchcert.displays.curves import CertifiedAccuracyDisplay, ParetoDisplay
    from sklearn_patchcert.displays.stickers import StickerDisplay
    from sklearn_patchcert.displays.usage import TokenUsageDisplay
    from sklearn_patchcert.displays.vocabularies import VocabularyDisplay
    from sklearn_patchcert.files.archive import ModelFileError
    from sklearn_patchcert.files.model_files import load, save
    from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
    from sklearn_patchcert.networks.transfer.features import TorchFeatures
    from sklearn_patchcert.pipeline import CertifiedPatchClassifier, CertifiedPatchRegressor
    from sklearn_patchcert.prediction.committee import CertifiedCommittee
    from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
    from sklearn_patchcert.prediction.masking.regressor import StickerCertifiedRegressor
    from sklearn_patchcert.preprocessing import ChannelStandardizer
    from sklearn_patchcert.reporting import write_report
    from sklearn_patchcert.smoothing.classifier import SmoothedClassifier
    from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

__getattr__, __dir__ = attach(
    __name__,
    __path__,
    {
        "CertificateDisplay": "displays.certificates",
        "CertifiedAccuracyDisplay": "displays.curves",
        "CertifiedCommittee": "prediction.committee",
        "CertifiedPatchClassifier": "pipeline",
        "CertifiedPatchRegressor": "pipeline",
        "ChannelStandardizer": "preprocessing",
        "ImageReader": "datasets.readers",
        "ModelFileError": "files.archive",
        "ParetoDisplay": "displays.curves",
        "PatchNetClassifier": "networks.estimators",
        "PatchNetRegressor": "networks.estimators",
        "PatchVocabulary": "vocabulary.estimator",
        "SmoothedClassifier": "smoothing.classifier",
        "StickerCertifiedClassifier": "prediction.masking.classifier",
        "StickerCertifiedRegressor": "prediction.masking.regressor",
        "StickerDisplay": "displays.stickers",
        "TokenUsageDisplay": "displays.usage",
        "TorchFeatures": "networks.transfer.features",
        "VocabularyDisplay": "displays.vocabularies",
        "certify": "composition",
        "load": "files.model_files",
        "save": "files.model_files",
        "write_report": "reporting",
    },
)

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
    "StickerCertifiedClassifier",
    "StickerCertifiedRegressor",
    "StickerDisplay",
    "TokenUsageDisplay",
    "TorchFeatures",
    "VocabularyDisplay",
    "__version__",
    "certify",
    "load",
    "save",
    "write_report",
]
