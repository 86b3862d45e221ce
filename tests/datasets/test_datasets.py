"""load_images: what digits are, what the cache must hold, what a download leaves behind."""

import gc
import hashlib
import http.client
import pickle
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import get_data_home, load_digits

from sklearn_patchcert.datasets.benchmarks import load_images

ARRAYS = ("X_train", "y_train", "X_test", "y_test")
CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}


def tiny(shape=(28, 28), n_train=6, n_test=4):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", n_train), ("test", n_test)):
        arrays[f"X_{split}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, 10, n, dtype=np.uint8)
    return arrays


def cache(home, name="mnist", **arrays):
    path = home / "patchcert" / f"{name}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let no test download anything."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test downloads")

    for name in CLASSES.values():
        monkeypatch.setattr(torchvision.datasets, name, refuse)


# ---------------------------------------------------------------------------- digits


def test_digits():
    data = load_images("digits")
    assert data.X_train.shape == (1347, 8, 8)
    assert data.X_test.shape == (450, 8, 8)
    assert {data[key].dtype for key in ARRAYS} == {np.dtype(np.uint8)}
    assert (data.y_train.shape, data.y_test.shape) == ((1347,), (450,))
    assert data.pixel_max == data.X_train.max() == data.X_test.max() == 16


def test_digits_are_split_into_two_parts_with_all_classes_alike():
    data, all_of_them = load_images("digits"), load_digits()

    def rows(X, y):
        return sorted(map(tuple, np.column_stack([np.reshape(X, (len(X), -1)), y]).astype(int)))

    both = [np.concatenate([data[f"{k}_train"], data[f"{k}_test"]]) for k in ("X", "y")]
    # each image once, with its own label
    assert rows(*both) == rows(all_of_them.images, all_of_them.target)
    shares = [np.bincount(y, minlength=10) / len(y) for y in (data.y_train, data.y_test)]
    np.testing.assert_allclose(*shares, atol=0.005)


def test_the_checksum_is_of_the_content(tmp_path):
    assert load_images("digits").sha256 == load_images("digits").sha256
    arrays = tiny()
    sums = []
    for key in (None, *ARRAYS):
        changed = {k: v.copy() for k, v in arrays.items()}
        if key is not None:
            changed[key].flat[-1] ^= 1  # one bit of one pixel or label
        cache(tmp_path, **changed)
        first, second = (load_images("mnist", tmp_path) for _ in range(2))
        assert first.sha256 == second.sha256
        sums.append(first.sha256)
    assert len(set(sums)) == len(sums)
    np.savez_compressed(tmp_path / "patchcert" / "mnist.npz", **dict(reversed(arrays.items())))
    assert load_images("mnist", tmp_path).sha256 == sums[0]  # not of the file's
    pixels = b"".join(arrays[key].tobytes() for key in ARRAYS)
    assert sums[0] == hashlib.sha256(pixels).hexdigest()


@pytest.mark.parametrize("name", ["MNIST", "imagenet", "", "../mnist", None])
def test_an_unknown_name(name, tmp_path):
    with pytest.raises(ValueError, match="name must be 'digits' or one of"):
        load_images(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("name", SHAPES)
def test_the_cache_is_read_as_it_is(name, tmp_path):
    arrays = tiny(SHAPES[name])
    cache(tmp_path, name, **arrays)
    for home in (tmp_path, str(tmp_path)):
        data = load_images(name, home)
        for key in ARRAYS:
            np.testing.assert_array_equal(data[key], arrays[key])
            assert data[key].dtype == np.uint8
        assert data.pixel_max == 255


def test_the_data_home_is_scikit_learns(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    arrays = tiny()
    cache(tmp_path, **arrays)
    np.testing.assert_array_equal(load_images("mnist").X_train, arrays["X_train"])


BROKEN = {
    "float images": {"X_train": np.zeros((6, 28, 28))},
    "wide labels": {"y_test": np.zeros(4, dtype=np.int64)},
    "channels first": {"X_test": np.zeros((4, 1, 28, 28), dtype=np.uint8)},
    "other size": {"X_train": np.zeros((6, 32, 32), dtype=np.uint8)},
    "rows": {"X_train": np.zeros((6, 784), dtype=np.uint8)},
    "fewer labels": {"y_train": np.zeros(5, dtype=np.uint8)},
    "objects": {"y_train": np.array([0, 1, 2, 3, 4, 5], dtype=object)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_cache_that_holds_something_else_is_refused(name, tmp_path):
    path = cache(tmp_path, **{**tiny(), **BROKEN[name]})
    with pytest.raises(ValueError, match="delete it") as raised:
        load_images("mnist", tmp_path)
    assert str(path) in str(raised.value)
    assert path.exists()  # to delete it is the user's own doing


@pytest.mark.parametrize("missing", ARRAYS)
def test_a_cache_without_one_of_the_arrays_is_refused(missing, tmp_path):
    path = cache(tmp_path, **{k: v for k, v in tiny().items() if k != missing})
    with pytest.raises(ValueError, match=missing) as raised:
        load_images("mnist", tmp_path)
    assert str(path) in str(raised.value)


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def corrupt(kind, path):
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        at = whole.index(b"X_train.npy") + 500  # amid the pixels
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("404 not found")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "objects":
        np.savez(path, **{**tiny(), "X_train": np.array([Trap()], dtype=object)})
    elif kind == "array":
        with open(path, "wb") as file:
            np.save(file, tiny()["X_train"])
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "kind", ["truncated", "flipped", "empty", "text", "pickle", "objects", "array", "folder"]
)
# NumPy leaves the file open where the archive is no archive.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_corrupt_cache_is_refused_and_nothing_in_it_is_executed(kind, tmp_path):
    path = cache(tmp_path, **tiny())
    corrupt(kind, path)
    with pytest.raises(ValueError, match="is no readable cache of images") as raised:
        load_images("mnist", tmp_path)
    assert str(path) in str(raised.value)
    del raised  # and with it the open file, while the warning is ignored
    gc.collect()


# ---------------------------------------------------------------------------- the download


class Downloads:
    """Stands for torchvision's data sets: leaves files behind, as they do."""

    def __init__(self, arrays, as_tensors, fail_at=None, error=None):
        self.arrays, self.as_tensors = arrays, as_tensors
        self.fail_at, self.error, self.calls = fail_at, error, []

    def __call__(self, root, train=True, transform=None, target_transform=None, download=False):
        split = "train" if train else "test"
        self.calls.append((split, download))
        raw = Path(root) / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        (raw / f"{split}.gz").write_bytes(b"half a file")
        if split == self.fail_at:
            raise self.error
        data, targets = self.arrays[f"X_{split}"], self.arrays[f"y_{split}"].tolist()
        if self.as_tensors:
            data, targets = torch.tensor(data), torch.tensor(targets)
        return SimpleNamespace(data=data, targets=targets)


@pytest.mark.parametrize("name", SHAPES)
def test_a_download_fills_the_cache_once(name, tmp_path, monkeypatch):
    source = Downloads(tiny(SHAPES[name]), as_tensors=name != "cifar10")
    monkeypatch.setattr(torchvision.datasets, CLASSES[name], source)
    data = load_images(name, tmp_path)
    assert source.calls == [("train", True), ("test", True)]
    again = load_images(name, tmp_path)
    assert len(source.calls) == 2  # the second time from the cache
    for key in ARRAYS:
        np.testing.assert_array_equal(data[key], source.arrays[key])
        np.testing.assert_array_equal(again[key], source.arrays[key])
    assert data.sha256 == again.sha256
    # nothing but the cache is left, and nothing in it is a pickle
    assert [path.name for path in (tmp_path / "patchcert").iterdir()] == [f"{name}.npz"]
    with np.load(tmp_path / "patchcert" / f"{name}.npz", allow_pickle=False) as file:
        assert sorted(file) == sorted(ARRAYS)


@pytest.mark.parametrize("fail_at", ["train", "test"])
@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        RuntimeError("File not found or corrupted."),
        ConnectionResetError("peer"),
        http.client.IncompleteRead(b"half"),
        tarfile.ReadError("not a tar file"),
        ValueError("a wrong magic number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_download_that_fails_names_the_cache_and_leaves_nothing(
    fail_at, error, tmp_path, monkeypatch
):
    source = Downloads(tiny(), True, fail_at, error)
    monkeypatch.setattr(torchvision.datasets, "MNIST", source)
    with pytest.raises(OSError, match="could not be downloaded") as raised:
        load_images("mnist", tmp_path)
    message = str(raised.value)
    assert str(tmp_path / "patchcert" / "mnist.npz") in message
    assert str(error) in message
    assert all(key in message for key in ARRAYS)  # what the user may put there
    assert list((tmp_path / "patchcert").iterdir()) == []
    # and once the network is back
    source.fail_at = None
    assert load_images("mnist", tmp_path).X_train.shape == (6, 28, 28)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", Downloads(tiny(), True))

    def full(file, **arrays):
        Path(file).write_bytes(b"the first half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left on device"):
        load_images("mnist", tmp_path)
    assert list((tmp_path / "patchcert").iterdir()) == []


def test_a_data_home_that_cannot_be_written(tmp_path):
    (tmp_path / "patchcert").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="is not cached at") as raised:
        load_images("mnist", tmp_path)
    assert str(tmp_path / "patchcert" / "mnist.npz") in str(raised.value)


def test_two_downloads_at_once_do_not_mix(tmp_path, monkeypatch):
    both_there = threading.Barrier(2, timeout=20)

    class Slow(Downloads):
        def __call__(self, root, train=True, **kwargs):
            if not train:
                both_there.wait()  # neither has written yet
            return super().__call__(root, train=train, **kwargs)

    monkeypatch.setattr(torchvision.datasets, "MNIST", Slow(tiny(), True))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_images("mnist", tmp_path).sha256))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "patchcert").iterdir()] == ["mnist.npz"]


# ---------------------------------------------------------------------------- the real ones


@pytest.mark.parametrize(
    ("name", "n_train"), [("mnist", 60000), ("fashion_mnist", 60000), ("cifar10", 50000)]
)
def test_what_is_cached_on_this_machine(name, n_train):
    path = Path(get_data_home()) / "patchcert" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there, and tests download nothing")
    data = load_images(name)
    assert data.X_train.shape == (n_train, *SHAPES[name])
    assert data.X_test.shape == (10000, *SHAPES[name])
    assert {data[key].dtype for key in ARRAYS} == {np.dtype(np.uint8)}
    assert (len(data.y_train), len(data.y_test)) == (n_train, 10000)
    np.testing.assert_array_equal(np.bincount(data.y_test) > 800, np.ones(10, dtype=bool))
    assert (data.X_train.min(), data.X_train.max()) == (0, 255) == (0, data.pixel_max)


@pytest.mark.parametrize("labels", [np.zeros((6, 1), np.uint8), np.zeros((), np.uint8)])
def test_labels_of_another_shape(tmp_path, labels):
    (tmp_path / "patchcert").mkdir()
    np.savez(tmp_path / "patchcert" / "mnist.npz", **{**tiny(), "y_train": labels})
    with pytest.raises(ValueError, match="delete it"):
        load_images("mnist", tmp_path)


def test_empty(tmp_path):
    (tmp_path / "patchcert").mkdir()
    np.savez(tmp_path / "patchcert" / "mnist.npz", **tiny(n_train=0))
    with pytest.raises(ValueError, match="delete it"):
        load_images("mnist", tmp_path)


def test_truncated_cache_leaves_no_open_file(tmp_path):
    path = tmp_path / "patchcert" / "mnist.npz"
    path.parent.mkdir()
    np.savez(path, **tiny())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no readable cache"):
        load_images("mnist", tmp_path)
    gc.collect()
