"""Write the network of a model as a program for torch, without Python classes."""

from __future__ import annotations

from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, add_model, add_talk

EPILOG = """
The program takes images made of tokens, (n, C, H, W), to the outputs of the
network, and needs torch alone: torch.export.load(FILE).module()(images).
Tokens and certificates are not in it. Before it is written, its answers are
compared with those of the model.

Example:
  patchcert export --model model.patchcert --out network.pt2
"""


def add_options(add):
    add_model(add)
    add("--out", required=True, type=Path, metavar="FILE", help="the program to write, .pt2")
    add_talk(add, jobs=False)


def run(options):
    from sklearn_patchcert.cli import maps, opened, talking
    from sklearn_patchcert.files.exports import export_network

    with talking.spoken_warnings():
        model = opened.read_model(options.model, options.max_bytes)
        maps.check_file(options.out, [options.model])
        try:
            export_network(model, options.out)
        except (TypeError, ValueError) as error:
            raise Impossible(talking.first_line(error)) from None
    result = {"out": str(options.out), "bytes": options.out.stat().st_size}
    if options.json or not options.quiet:
        talking.told(result, options.json, f"written: {options.out}")
    return 0
