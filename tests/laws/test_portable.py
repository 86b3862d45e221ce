"""What holds on every system: text has an encoding, and only files open for writing are flushed."""

import ast
import os
import stat
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import sklearn_patchcert
from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert._validation import check_autocast
from sklearn_patchcert.outofcore import certify_to

PACKAGE = Path(sklearn_patchcert.__file__).parent


def texts_without_encoding(source):
    """Lines that open text, or read or write it, in whatever encoding the system prefers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            modes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
            mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "r"
            if "b" not in mode:
                found.append(node.lineno)
        elif isinstance(function, ast.Attribute) and function.attr in ("read_text", "write_text"):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_text_has_an_encoding(path):
    assert texts_without_encoding(path.read_text(encoding="utf-8")) == []


def test_the_check_sees_text_without_an_encoding():
    source = (
        "open(p)\nopen(p, 'rb')\nopen(p, mode='a')\nq.read_text()\nq.write_text('', encoding='x')"
    )
    assert texts_without_encoding(source) == [1, 3, 4]


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_only_files_that_are_open_for_writing_are_flushed(tmp_path, monkeypatch, suffix):
    """Windows refuses to flush others; folders are flushed on POSIX only."""
    fcntl = pytest.importorskip("fcntl")
    if suffix == "zarr":
        pytest.importorskip("zarr")
    flush, modes = os.fsync, []

    def watched(number):
        if stat.S_ISREG(os.fstat(number).st_mode):
            modes.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)
        flush(number)

    monkeypatch.setattr(os, "fsync", watched)
    vocabulary = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1, image_shape=(2, 2))
    certify_to(vocabulary, np.eye(4).reshape(4, 4), tmp_path / f"radii.{suffix}", chunk_size=2)
    assert modes
    assert os.O_RDONLY not in modes


def test_a_torch_without_onednn_computes_in_float32(monkeypatch):
    """As torch for Apple's processors is: it lacks the operators, too."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())
    assert check_autocast("auto", "cpu") is False
