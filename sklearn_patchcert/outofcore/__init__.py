"""Certificates of arrays that are larger than memory, chunk by chunk into a file."""

from sklearn_patchcert.outofcore.certification import certify_to

__all__ = ["certify_to"]
