"""The command line: one parser for a command, and no mathematics."""

from sklearn_patchcert.cli.commands import main

__all__ = ["main"]
