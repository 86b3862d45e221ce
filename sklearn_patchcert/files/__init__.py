"""Fitted models as files that are safe to open: JSON and safetensors in a zip archive.

`descriptions` and `values` turn a model into plain data, `archive` turns the data into bytes, and
`known_classes` and `fitted_checks` list what a file may hold.
"""

from sklearn_patchcert.files.archive import ModelFileError
from sklearn_patchcert.files.cards import read_card
from sklearn_patchcert.files.exports import export_network
from sklearn_patchcert.files.model_files import load, save

__all__ = ["ModelFileError", "export_network", "load", "read_card", "save"]
