"""The file format: every bit counts, the same content is the same bytes, and no half files."""

import io
import os
import random
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert import PatchVocabulary, save, whole_files
from sklearn_patchcert.files import archive
from sklearn_patchcert.files.archive import ModelFileError

CONTENT = {"model": {"name": "μ", "numbers": [1, -0.5, 1e300, None, True]}}
ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "counts": np.array([3, 1], dtype=np.int64),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4)),
    "flags": np.array([True, False]),
}
DATA = archive.pack(CONTENT, ARRAYS)


def test_what_is_packed_comes_back():
    content, arrays = archive.unpack(DATA)
    assert content == {**CONTENT, "format": "sklearn_patchcert", "format_version": 1}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)


def test_the_same_content_is_the_same_bytes():
    shuffled = dict(random.Random(0).sample(list(ARRAYS.items()), len(ARRAYS)))
    assert archive.pack(CONTENT, shuffled) == DATA


def test_others_read_it_as_a_zip_archive():
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        assert file.testzip() is None
        assert file.namelist() == ["manifest.json", "arrays.safetensors", "SHA256SUMS"]
        assert b"sha256" not in file.read("manifest.json")


def test_every_single_bit_counts():
    for index in range(8 * len(DATA)):
        flipped = bytearray(DATA)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(ModelFileError):
            archive.unpack(bytes(flipped))


def test_every_truncation_is_found():
    for size in range(len(DATA)):
        with pytest.raises(ModelFileError):
            archive.unpack(DATA[:size])


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damage_of_any_kind_is_found(data):
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        end = data.draw(st.integers(at, min(at + 40, len(damaged))))
        damaged[at:end] = data.draw(st.binary(max_size=40))
        if not damaged:
            break
    if damaged != DATA:
        with pytest.raises(ModelFileError):
            archive.unpack(bytes(damaged))


@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused(data):
    for foreign in (data, b"PK\3\4" + data):
        with pytest.raises(ModelFileError):
            archive.unpack(foreign)


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "large"
    with open(path, "wb") as stream:
        stream.truncate(2**40)  # a hole: no such disk is needed
    with pytest.raises(ModelFileError, match=f"has {2**40} bytes, more than max_bytes={2**30}"):
        archive.read(path)
    with pytest.raises(ModelFileError, match="more than max_bytes=3"):
        archive.read(path, max_bytes=3)


def test_only_regular_files_are_read(tmp_path):
    places = [tmp_path]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        places += [tmp_path / "pipe", "/dev/zero"]
    for path in places:
        with pytest.raises(ModelFileError, match="is no regular file"):
            archive.read(path)
    with pytest.raises(FileNotFoundError):
        archive.read(tmp_path / "nothing")


def test_what_is_no_file_is_not_replaced(tmp_path):
    """Neither is a pipe that somebody reads, nor, for a root, a device of the machine."""
    places = {tmp_path: "is a folder", tmp_path / "none" / "file": "there is no folder"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        os.symlink("pipe", tmp_path / "link")
        places |= dict.fromkeys((tmp_path / "pipe", tmp_path / "link"), "is a pipe or a device")
    if os.path.islink("/dev/stdout"):  # to a file, if the output is written to one
        places["/dev/stdout"] = "is a pipe or a device"
    vocabulary = PatchVocabulary.from_tokens(np.eye(4), patch_size=2)
    before = sorted(tmp_path.iterdir())
    for path, why in places.items():
        with pytest.raises(OSError, match=why):
            save(vocabulary, path)
    assert sorted(tmp_path.iterdir()) == before
    if hasattr(os, "mkfifo"):
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"before")

    def interrupted():
        with whole_files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    with whole_files.replacing(path) as temporary:
        temporary.write_bytes(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["model"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask  # as any file that one writes


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody tells which processes run")
def test_what_a_killed_process_leaves_is_cleared_away_and_nothing_else(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path, model = tmp_path / "model", PatchVocabulary.from_tokens(np.eye(4), patch_size=2)

    def left(pid):
        with monkeypatch.context() as patch:
            patch.setattr(whole_files.os, "getpid", lambda: pid)
            with whole_files.replacing(path) as temporary:
                temporary.write_bytes(b"half")
        temporary.write_bytes(b"half")
        return temporary

    gone = [left(ended.pid), left(os.getpid())]  # in containers, numbers come again
    spared = [left(os.getppid()), tmp_path / ".model.tmp"]
    spared += [tmp_path / f".model.{'0' * 8}.{ended.pid}.0123abcd.tmp"]  # of another machine
    for other in spared:
        other.write_bytes(b"")
    with whole_files.replacing(path) as temporary:
        temporary.write_bytes(b"")
        save(model, path)  # in another thread, say
        assert temporary.exists()
    assert not any(other.exists() for other in gone)
    assert sorted(tmp_path.iterdir()) == sorted([*spared, path])


def test_too_large_a_model_is_not_packed(monkeypatch):
    monkeypatch.setattr(archive, "_MANIFEST_BYTES", 50)
    with pytest.raises(ValueError, match="too large for a file"):
        archive.pack(CONTENT, ARRAYS)
    with pytest.raises(ModelFileError, match="more than 50"):
        archive.unpack(DATA)
