"""load_image_folder: ImageFolder's layout, a report of what was left out, a cache that is fresh."""

import os
import re
import warnings

import numpy as np
import pytest
import torchvision
from PIL import Image

from sklearn_patchcert import whole_files
from sklearn_patchcert.datasets import ImageReader, load_image_folder

NAMES = ["cats/a.jpg", "cats/B.PNG", "cats/deep/er/c.webp", "dogs/d.bmp", "dogs/a.jpg"]


@pytest.fixture
def folder(tmp_path):
    """Five pictures of two classes, of all sizes."""
    rng = np.random.default_rng(0)
    for at, name in enumerate(NAMES):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + at, 30 - at, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def add_odd_files(folder):
    (folder / "cats" / "notes.txt").write_text("no picture")
    (folder / "cats" / ".hidden.jpg").write_text("no picture")
    (folder / "cats" / "broken.jpg").write_text("no picture")
    (folder / "dogs" / "empty.png").write_text("")
    (folder / "loose.png").write_text("")
    (folder / "birds").mkdir()
    (folder / ".cache").mkdir()
    return {
        "cats/notes.txt": r"\.txt", "cats/broken.jpg": "no picture", "dogs/empty.png": "empty",
        "loose.png": "no class folder", "birds": "without pictures",
    }  # fmt: skip


def test_it_reads_what_torchvision_reads(folder):
    data = load_image_folder(folder, image_size=16)
    other = torchvision.datasets.ImageFolder(folder)
    assert data.target_names == other.classes
    assert list(zip(data.filenames, data.target, strict=True)) == sorted(other.samples)
    np.testing.assert_array_equal(data.data, ImageReader(16).transform(data.filenames))
    assert data.skipped == {}


def test_paths_alone_are_what_a_reader_takes(folder):
    paths = load_image_folder(folder, load_content=False)
    whole = load_image_folder(folder, image_size=16, mode="L")
    np.testing.assert_array_equal(ImageReader(16, mode="L").transform(paths.data), whole.data)
    np.testing.assert_array_equal(paths.target, whole.target)


def test_all_that_is_left_out_is_told_and_counted(folder, tmp_path):
    odd = add_odd_files(folder)
    for cache in (None, tmp_path / "cache.npy", tmp_path / "cache.npy"):
        with pytest.warns(UserWarning, match="5 left out, 5 pictures loaded: 1 "):
            data = load_image_folder(folder, image_size=16, cache=cache)
        assert {os.path.relpath(name, folder) for name in data.skipped} == set(odd)
        for name, why in odd.items():
            assert re.search(why, data.skipped[str(folder / name)])
        assert len(data.data) == len(data.target) == len(data.filenames) == len(NAMES)
        assert data.target_names == ["cats", "dogs"]
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        load_image_folder(folder, image_size=16, on_error="raise")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        load_image_folder(folder, image_size=16, on_error="raise", cache=tmp_path / "cache.npy")


def test_categories_choose_the_classes(folder):
    data = load_image_folder(folder, image_size=16, categories=["dogs"])
    assert data.target_names == ["dogs"]
    assert len(data.data) == 2
    with pytest.raises(ValueError, match=r"birds.*cats"):
        load_image_folder(folder, categories=["birds"])


def test_a_cache_gives_the_same_images_as_long_as_nothing_changes(folder, tmp_path, monkeypatch):
    cache, calls = tmp_path / "cache.npy", []
    read = ImageReader._read
    monkeypatch.setattr(
        ImageReader,
        "_read",
        lambda self, *args, **options: calls.append(1) or read(self, *args, **options),
    )

    def load(**options):
        calls.clear()
        return load_image_folder(folder, **{"image_size": 16, "cache": cache, **options}).data

    expected = load_image_folder(folder, image_size=16).data
    first, written = load(), len(calls)
    again, read_again = load(), len(calls)
    assert (written, read_again) == (1, 0)
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(again, expected)
    del first, again
    assert load(resize="pad").shape == expected.shape
    assert calls
    Image.new("RGB", (9, 9), "red").save(folder / NAMES[0])
    changed = load()
    assert calls
    np.testing.assert_array_equal(changed, load_image_folder(folder, image_size=16).data)
    for damage in ('{"key": null, "failed": {}}', '{"key": 1, "failed": []}'):
        cache.with_suffix(".json").write_text(damage)
        np.testing.assert_array_equal(load(), changed)
        assert calls
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "cache.npy", "cache.json"}


def test_a_cache_is_of_one_folder(tmp_path):
    """Not of another with the same names, sizes and times of its files, as copies have them."""
    found = []
    for name, shade in (("some", 60), ("other", 200)):
        for kind in ("cats", "dogs"):
            (tmp_path / name / kind).mkdir(parents=True)
            path = tmp_path / name / kind / "0.bmp"
            Image.new("L", (8, 8), shade).save(path)
            os.utime(path, (10**9, 10**9))
        found.append(load_image_folder(tmp_path / name, cache=tmp_path / "cache.npy").data.max())
    np.testing.assert_allclose(found, [60 / 255, 200 / 255], rtol=1e-6)


@pytest.mark.parametrize("name", ["mine.npy", "mine.json", "pictures/cats/picture.npy"])
def test_a_cache_takes_no_place_of_another_file(folder, tmp_path, name):
    np.save(folder / "cats" / "picture.npy", np.zeros((20, 20), dtype=np.uint8))
    own = tmp_path / name
    if not own.exists():
        own.write_text('{"key": "of a door"}')
    before = own.read_bytes()
    with pytest.raises(ValueError, match="was not written as a cache, so it is not replaced"):
        load_image_folder(folder, image_size=16, cache=own.with_suffix(".npy"))
    assert own.read_bytes() == before
    assert not (own.with_suffix(".json").exists() and own.suffix == ".npy")


def test_what_a_killed_process_left_of_a_cache_is_cleared(folder, tmp_path):
    left = tmp_path / f".cache.npy.{whole_files._host()}.{2**22 + 1}.0123abcd.tmp"
    left.write_bytes(bytes(10))
    load_image_folder(folder, image_size=16, cache=tmp_path / "cache.npy")
    assert not left.exists()


def test_an_interrupted_cache_is_not_there(folder, tmp_path, monkeypatch):
    def interrupt(self, *args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ImageReader, "_read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_image_folder(folder, image_size=16, cache=tmp_path / "cache.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_folders_that_cannot_be_loaded(folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="missing"):
        load_image_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="no subfolders with pictures"):
        load_image_folder(folder / "cats" / "deep" / "er")
    with pytest.raises(ValueError, match="image_size"):
        load_image_folder(folder)
    with pytest.raises(ValueError, match="on_error"):
        load_image_folder(folder, on_error="ignore")
    with pytest.raises(ValueError, match=r"\.npy"):
        load_image_folder(folder, image_size=16, cache=tmp_path / "cache.bin")


def test_links_are_followed_but_never_back(folder, tmp_path):
    (folder / "cats" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "cats" / "deep" / "loop").symlink_to(folder / "cats", target_is_directory=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_image_folder(folder, image_size=16).data) == len(NAMES)
    other = tmp_path / "elsewhere"
    other.mkdir()
    Image.new("RGB", (9, 9)).save(other / "one.png")
    (folder / "cats" / "more").symlink_to(other, target_is_directory=True)
    assert len(load_image_folder(folder, image_size=16).data) == len(NAMES) + 1
