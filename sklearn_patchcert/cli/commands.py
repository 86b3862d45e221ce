"""The command `patchcert`: from a folder of pictures to a certified model and a report."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from sklearn_patchcert._version import __version__
from sklearn_patchcert.cli.options import Impossible, shown

# A parser is made without torch, so that --help and --version come at once.
_COMMANDS = {
    "fit": ("fitting", "train a certified classifier on a folder of pictures"),
    "info": ("describing", "what a model is, was trained on and expects"),
    "predict": ("predicting", "the class of pictures, and how far each may be changed"),
    "certify": ("certifying", "radii of all patches of pictures, as arrays and as pictures"),
    "attack": ("attacking", "what attacks leave of the accuracy"),
    "report": ("reporting", "one page that shows what a model can do on a folder of pictures"),
    "export": ("exporting", "the network of a model as a program for torch"),
}
_FROM_THE_START = ("fit", "info", "attack", "export")
_EPILOG = """
Start with a folder that has a subfolder of pictures for each class:

  patchcert fit photos/ --out model.patchcert --image-size 64
  patchcert report photos/ --model model.patchcert --out report.html

Exit status: 0 if every file was done; 1 if some were left out, each of which
is listed with the reason; 2 if nothing could be done; 130 if interrupted.
Whatever happens, a file that is written is either whole or not there. certify,
predict --out and report go on where they were interrupted when they are
started again; fit and attack start from the beginning.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str or None
        None: those of the process.

    Returns
    -------
    status : int
        Of the process, as ``patchcert --help`` says.

    Examples
    --------
    In a shell: ``patchcert certify images/ --model model.patchcert --out maps/``.

    >>> from sklearn_patchcert.cli import main
    >>> main(["certify", "images/", "--model", "missing.patchcert", "--out", "maps/"])
    2
    """
    options = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        return options.run(options)
    except BrokenPipeError:  # whoever reads the output has enough, as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Impossible, OSError) as error:
        return _stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        return _stop(_interrupted(options.command), 130)
    except Exception:  # status 1 says that files were left out, and this is another matter
        traceback.print_exc()
        return _stop("error: this should not happen; please report it", 2)


def _interrupted(command):
    if command in _FROM_THE_START:
        return "interrupted; nothing is written"
    return "interrupted; start the same command again to go on"


def _stop(message, status):
    print(f"patchcert: {shown(message)}", file=sys.stderr)
    return status


def _parser():
    parser = argparse.ArgumentParser(
        prog="patchcert",
        description="Image robustness that can be proved, patch by patch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (room, summary) in _COMMANDS.items():
        module = importlib.import_module(f"sklearn_patchcert.cli.{room}")
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command.add_argument)
        command.set_defaults(run=module.run)
    return parser
