"""Outputs of other work, damaged ones and images that are outputs: refused, never overwritten."""

import importlib.util
import os
import shutil

import numpy as np
import pytest
import torch
from filelock import FileLock
from sklearn.linear_model import RidgeClassifier
from stores_for_tests import N, Sliceable, everything, some_images, some_tokens

from sklearn_patchcert import PatchVocabulary, SmoothedClassifier
from sklearn_patchcert.outofcore.certification import certify_to


@pytest.fixture(scope="module")
def images():
    return some_images()


@pytest.fixture(scope="module")
def vocabulary():
    return some_tokens()


# ---------------------------------------------------------------------------- refusals


def test_other_settings_are_refused_or_start_anew(images, vocabulary, tmp_path, monkeypatch):
    path = tmp_path / "radii.npy"
    certify_to(vocabulary, images, path, chunk_size=20)
    whole = path.read_bytes()
    tokens = vocabulary.vocabulary_ + np.float32(0.01)
    moved = PatchVocabulary.from_tokens(tokens, patch_size=4, image_shape=(8, 8))
    options = {"chunk_size": 20}
    cases = [
        (moved, images, options, "model"),
        (vocabulary, images, {**options, "norm": "l1"}, "norm 'l2', now 'l1'"),
        (vocabulary, images, {"chunk_size": 21}, "chunk_size 20, now 21"),
        (vocabulary, images[:-1], options, "images"),
        (vocabulary, images.astype(np.float64), options, "images"),
        (vocabulary, images[::-1], options, "other images"),
    ]
    for model, X, chosen, message in cases:
        with pytest.raises(ValueError, match=f"cannot be continued.*{message}.*overwrite=True"):
            certify_to(model, X, path, **chosen)
        assert path.read_bytes() == whole
    for model, X, chosen, _ in cases:
        radii = certify_to(model, X, path, overwrite=True, **chosen)
        norm = chosen.get("norm", "l2")
        np.testing.assert_array_equal(radii, model.certify(X, norm))
    monkeypatch.setattr("sklearn_patchcert.outofcore.certification.__version__", "0")
    with pytest.raises(ValueError, match="library"):
        certify_to(vocabulary, images[::-1], path, chunk_size=20)


def test_overwrite_does_not_throw_away_what_can_be_continued(
    images, vocabulary, tmp_path, monkeypatch
):
    certified, certify = [], type(vocabulary).certify
    monkeypatch.setattr(type(vocabulary), "certify", lambda self, X, norm: (
        certified.append(len(X)) or certify(self, X, norm)))  # fmt: skip
    for _ in range(2):
        certify_to(vocabulary, images, tmp_path / "a.npy", chunk_size=20, overwrite=True)
    assert certified == [20, 20, 20, 20]


def test_what_has_no_record_is_nobody_elses(images, vocabulary, tmp_path):
    path = tmp_path / "mine.npy"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"mine\.npy\.progress does not"):
        certify_to(vocabulary, images, path)
    assert path.read_bytes() == b"precious"
    certify_to(vocabulary, images, tmp_path / "radii.npy", chunk_size=20)
    (tmp_path / "radii.npy").write_bytes(b"precious")
    with pytest.raises(ValueError, match="cannot be continued"):
        certify_to(vocabulary, images, tmp_path / "radii.npy", chunk_size=20)
    (tmp_path / "radii.npy.progress").write_text("a diary")
    with pytest.raises(ValueError, match="no record"):
        certify_to(vocabulary, images, tmp_path / "radii.npy", chunk_size=20)


def test_one_process_at_a_time(images, vocabulary, tmp_path):
    path = tmp_path / "radii.npy"
    with FileLock(f"{path}.lock"), pytest.raises(RuntimeError, match="Another process"):
        certify_to(vocabulary, images, path)
    certify_to(vocabulary, images, path)


def test_bad_arguments(images, vocabulary, tmp_path):
    path = tmp_path / "radii.npy"
    for model in (object(), SmoothedClassifier(RidgeClassifier())):
        with pytest.raises(TypeError, match="no patch certificate"):
            certify_to(model, images, path)
    shape_alone = type("Shape", (), {"shape": images.shape})()
    with pytest.raises(TypeError, match="shape, a dtype and slices"):
        certify_to(vocabulary, shape_alone, path)
    with pytest.raises(ValueError, match="sizes that are known"):
        certify_to(vocabulary, images[:0], path)
    with pytest.raises(ValueError, match="norm"):
        certify_to(vocabulary, images, path, norm="l3")
    with pytest.raises(ValueError, match="chunk_size"):
        certify_to(vocabulary, images, path, chunk_size=0)
    with pytest.raises(ValueError, match=r"\.npy or a \.zarr"):
        certify_to(vocabulary, images, tmp_path / "radii.txt")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- harm


def stored(folder, images):
    """Images in a file and in a folder, and other names for these; who writes where."""
    np.save(folder / "a.npy", images)
    (folder / "more").mkdir()
    (folder / "link.npy").symlink_to("a.npy")
    (folder / "hard.npy").hardlink_to(folder / "a.npy")
    (folder / "folder").symlink_to(".", target_is_directory=True)
    mapped = np.load(folder / "a.npy", mmap_mode="r")
    npy, same = folder / "a.npy", ["a.npy", "link.npy", "hard.npy", "folder/a.npy"]
    cases = [(npy, name) for name in same]
    cases += [(source, "link.npy") for source in (mapped, mapped[3:], np.asarray(mapped[::2]))]
    cases += [(folder / "more" / ".." / "hard.npy", npy), ("a.npy", folder / "link.npy")]
    if importlib.util.find_spec("zarr"):
        import zarr

        array = zarr.save_array(str(folder / "a.zarr"), images) or zarr.open_array(
            str(folder / "a.zarr"), mode="r"
        )
        (folder / "link.zarr").symlink_to("a.zarr", target_is_directory=True)
        np.save(folder / "a.zarr" / "inside.npy", images)
        cases += [(folder / "a.zarr", name) for name in ("a.zarr", "link.zarr")]
        cases += [(array, "link.zarr"), (array, "link.zarr/out.npy")]
        cases += [("folder/link.zarr/inside.npy", "a.zarr")]
    return cases


def test_images_are_never_overwritten(images, vocabulary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = stored(tmp_path, images)
    names, before = sorted(tmp_path.rglob("*")), everything(tmp_path)
    for source, path in cases:
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="are read from"):
                certify_to(vocabulary, source, path, overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == names
    assert everything(tmp_path) == before


def hidden(folder, images):
    """Arrays that do not tell from which file they come, or are in memory."""
    mapped = np.load(folder / "a.npy", mmap_mode="r")
    cases = {
        "in memory": images,
        "list": list(mapped),
        "sliceable": Sliceable(mapped),
        "torch": torch.from_numpy(np.load(folder / "a.npy", mmap_mode="c")),
        "rows": Sliceable(mapped.reshape(N, -1)),
        "the first": images[:11],
    }
    if importlib.util.find_spec("dask"):
        import dask.array

        cases["dask"] = dask.array.from_array(mapped, chunks=(20, 8, 8))
    return cases


def test_images_are_known_by_what_they_are(images, vocabulary, tmp_path):
    np.save(tmp_path / "a.npy", images)
    before = everything(tmp_path)
    for name, source in hidden(tmp_path, images).items():
        with pytest.raises(ValueError, match="holds these images"):
            certify_to(vocabulary, source, tmp_path / "a.npy", overwrite=True)
        assert everything(tmp_path) == before, name
    np.save(tmp_path / "a.npy", images + 1)  # those of somebody else
    radii = certify_to(vocabulary, images, tmp_path / "a.npy", overwrite=True)
    np.testing.assert_array_equal(radii, vocabulary.certify(images))


@pytest.mark.parametrize("content", [b"", b"words", b"\x93NUMPY\x01"])
def test_a_file_that_holds_no_images_is_named(vocabulary, tmp_path, content):
    (tmp_path / "im.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"im\.npy holds no images"):
        certify_to(vocabulary, tmp_path / "im.npy", tmp_path / "out.npy")


def rewritten(change):
    """The damage of an array that is saved again in another form."""

    def damage(path):
        np.save(path, change(np.load(path)))

    return damage


def edited(change):
    """The damage of another text: of a record, or of the metadata of a folder."""

    def damage(path):
        path = path / "zarr.json" if path.is_dir() else path.with_name(f"{path.name}.progress")
        path.write_bytes(change(path.read_bytes()))

    return damage


def chunk_of(path):
    return path / "c" / "0" / "0" / "0"


TEXTS = {
    "empty record": lambda text: b"",
    "record of bytes": lambda text: b"\xff\xfe\x00" + text,
    "record without settings": lambda text: text.split(b"\n", 1)[1],
    "short line": lambda text: text + b"[1]\n",
    "long line": lambda text: text + b"[1, 2, 3]\n",
    "other line": lambda text: text + b'{"1": 2}\n',
    "words": lambda text: text + b'["1", "2"]\n',
    "truth": lambda text: text + b"[true, 5]\n",
    "half a line in the middle": lambda text: text.replace(b"]\n", b"\n", 1),
    "chunk too far": lambda text: text + b"[99, 5]\n",
    "chunk before the first": lambda text: text + b"[-1, 5]\n",
    "nested": lambda text: b"[" * 100_000 + text,
}
DAMAGE = {
    "npy": {
        "no bytes": lambda path: path.write_bytes(b""),
        "half": lambda path: path.write_bytes(path.read_bytes()[:300]),
        "half a header": lambda path: path.write_bytes(path.read_bytes()[:20]),
        "longer": lambda path: path.write_bytes(path.read_bytes() + b"0" * 8),
        "Fortran": rewritten(np.asfortranarray),
        "big-endian": rewritten(lambda radii: radii.astype(">f8")),
        "integers": rewritten(lambda radii: radii.view("<i8")),
        "float32": rewritten(lambda radii: radii.astype(np.float32)),
        "more rows": rewritten(lambda radii: np.concatenate([radii, radii])),
        "fewer rows": rewritten(lambda radii: radii[:-1]),
        "flat": rewritten(lambda radii: radii.reshape(N, -1)),
        **{name: edited(change) for name, change in TEXTS.items()},
    },
    "zarr": {
        "empty chunk": lambda path: chunk_of(path).write_bytes(b""),
        "half a chunk": lambda path: chunk_of(path).write_bytes(chunk_of(path).read_bytes()[:9]),
        "no metadata": lambda path: (path / "zarr.json").unlink(),
        "empty metadata": edited(lambda text: b""),
        "half of the metadata": edited(lambda text: text[:99]),
        "more rows": edited(lambda text: text.replace(b"60", b"80")),
        "fewer rows": edited(lambda text: text.replace(b"60", b"50")),
        "other chunks": edited(lambda text: text.replace(b"20", b"30")),
        "big-endian": edited(lambda text: text.replace(b"little", b"big")),
        "integers": edited(lambda text: text.replace(b"float64", b"int64").replace(b'"NaN"', b"0")),
        "zeros": edited(lambda text: text.replace(b'"NaN"', b"0.0")),
        "a file": lambda path: (shutil.rmtree(path), path.write_bytes(b"")),
    },
}


@pytest.mark.parametrize(("suffix", "damage"), [(s, d) for s in DAMAGE for d in DAMAGE[s]])
def test_a_damaged_output_is_one_clear_error_and_a_new_start(
    images, vocabulary, tmp_path, suffix, damage
):
    if suffix == "zarr":
        pytest.importorskip("zarr")
    path, whole = tmp_path / f"radii.{suffix}", tmp_path / f"whole.{suffix}"
    broken = Sliceable(np.where(np.arange(N)[:, None, None] < 45, images, np.nan))
    with pytest.raises(ValueError, match="NaN"):
        certify_to(vocabulary, broken, path, chunk_size=20)
    DAMAGE[suffix][damage](path)
    before = everything(tmp_path)
    said = rf"radii\.{suffix} cannot be continued: .*overwrite=True"
    with pytest.raises(ValueError, match=said) as error:
        certify_to(vocabulary, images, path, chunk_size=20)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before
    expected = np.asarray(certify_to(vocabulary, images, whole, chunk_size=20)[:])
    found = certify_to(vocabulary, images, path, chunk_size=20, overwrite=True)
    np.testing.assert_array_equal(found[:], expected)
    files = [{k.split(os.sep, 1)[-1]: v for k, v in everything(tmp_path).items() if k.startswith(n)}
             for n in ("radii", "whole")]  # fmt: skip
    assert list(files[0].values()) == list(files[1].values())


def test_the_lock_and_the_record_are_those_of_the_file_that_a_link_leads_to(
    images, vocabulary, tmp_path
):
    (tmp_path / "more").mkdir()
    path, link = tmp_path / "more" / "radii.npy", tmp_path / "link.npy"
    link.symlink_to(path)
    with FileLock(f"{path}.lock"), pytest.raises(RuntimeError, match="Another process"):
        certify_to(vocabulary, images, link)
    certify_to(vocabulary, images, link, chunk_size=20)
    seen = Sliceable(images)
    certify_to(vocabulary, seen, path, chunk_size=20)
    assert seen.asked == [(0, 20), (20, 40), (40, 60)]  # and none is written
    assert sorted(tmp_path.glob("*")) == [link, tmp_path / "more"]


def test_what_a_killed_writer_of_a_chunk_leaves_is_cleared_away(images, vocabulary, tmp_path):
    pytest.importorskip("zarr")
    path, once = tmp_path / "often" / "radii.zarr", tmp_path / "once" / "radii.zarr"
    broken = Sliceable(np.where(np.arange(N)[:, None, None] < 45, images, np.nan))
    for folder in (path.parent, once.parent):
        folder.mkdir()
    with pytest.raises(ValueError, match="NaN"):
        certify_to(vocabulary, broken, path, chunk_size=40)
    last = path / "c" / "1" / "0" / "0"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"half")  # a chunk at the edge is read before it is written
    (last.parent / "0.123abc.partial").write_bytes(b"half")
    for name in (path, once):
        certify_to(vocabulary, images, name, chunk_size=40)
    assert everything(path) == everything(once)
