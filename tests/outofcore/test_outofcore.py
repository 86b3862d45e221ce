"""Work in chunks: the bytes of one run, whatever stops it, however often, and wherever."""

import importlib.util
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from stores_for_tests import CHUNK, N, Sliceable, everything, some_images, some_tokens

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.outofcore import stores
from sklearn_patchcert.outofcore.certification import certify_to


@pytest.fixture(scope="module")
def images():
    return some_images()


@pytest.fixture(scope="module")
def vocabulary():
    return some_tokens()


@pytest.mark.parametrize("chunk_size", [1, CHUNK, N, 10 * N, None])
def test_radii_are_those_of_certify(images, vocabulary, tmp_path, chunk_size):
    radii = certify_to(vocabulary, images, tmp_path / "radii.npy", chunk_size=chunk_size)
    np.testing.assert_array_equal(radii, vocabulary.certify(images))
    assert isinstance(radii, np.memmap)
    assert radii.dtype == np.float64


def test_images_of_any_kind_and_both_kinds_of_output(images, vocabulary, tmp_path):
    da, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    np.save(tmp_path / "images.npy", images)
    zarr.save_array(str(tmp_path / "images.zarr"), images)
    expected = vocabulary.certify(images, norm="linf")
    kinds = {
        "mapped": np.load(tmp_path / "images.npy", mmap_mode="r"),
        "path": str(tmp_path / "images.npy"),
        "folder": tmp_path / "images.zarr",
        "dask": da.from_array(images, chunks=(5, 8, 8)) * 1,
        "zarr": zarr.open_array(str(tmp_path / "images.zarr"), mode="r"),
        "sliceable": Sliceable(images),
    }
    for name, kind in kinds.items():
        for suffix in ("npy", "zarr"):
            path = tmp_path / f"{name}.{suffix}"
            radii = certify_to(vocabulary, kind, path, norm="linf", chunk_size=7)
            np.testing.assert_array_equal(radii[:], expected)
    reader = stores.open_images(kinds["dask"])
    assert reader[3] == 5  # so that a chunk of Dask's is computed once


def test_pipelines_in_the_units_of_their_input(images, tmp_path):
    rows, y = images.reshape(N, -1), np.arange(N) % 2
    model = CertifiedPatchClassifier(
        [
            ("scale", StandardScaler()),
            ("vocab", PatchVocabulary(4, 4, random_state=0)),
            ("clf", RidgeClassifier()),
        ]
    ).fit(rows, y)
    radii = certify_to(model, rows, tmp_path / "radii.npy", chunk_size=CHUNK)
    np.testing.assert_array_equal(radii, model.certify(rows))
    assert len(certify_to(model, rows, tmp_path / "radii.npy", chunk_size=CHUNK)) == N
    other = model.set_params(scale__with_std=False).fit(rows, y)
    with pytest.raises(ValueError, match="made with model"):
        certify_to(other, rows, tmp_path / "radii.npy", chunk_size=CHUNK)


# ---------------------------------------------------------------------------- interruptions

KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from tqdm import tqdm
from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.outofcore import certify_to

tqdm.set_lock(threading.RLock())  # its own is shared: a child killed while it holds it stops all
tqdm.monitor_interval = 0
folder, images = Path(sys.argv[1]), np.load(sys.argv[2])
tokens = np.random.default_rng(1).random((6, 16)).astype(np.float32)
vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=4, image_shape=(8, 8))
vocabulary.certify(images[:1])
if "zarr" in sys.argv:
    import zarr

class Slow:
    shape, dtype = images.shape, images.dtype
    def __getitem__(self, rows):
        time.sleep(0.01)
        return images[rows]

random = np.random.default_rng(0)
for suffix in sys.argv[3:]:
    path, kills = folder / f"radii.{suffix}", 0
    record = Path(f"{path}.progress")
    def finished():
        return len(record.read_text().splitlines()) - 1 if record.exists() else 0
    while finished() < len(images) // 2:
        enough = finished() + random.integers(1, 8)
        child = os.fork()
        if not child:
            certify_to(vocabulary, Slow(), path, chunk_size=2)
            os._exit(0)
        while finished() < enough and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
        except (ProcessLookupError, ChildProcessError):
            break
    print(kills)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are POSIX")
def test_killed_again_and_again_it_ends_with_the_bytes_of_one_run(images, vocabulary, tmp_path):
    zarr = importlib.util.find_spec("zarr")
    suffixes = ["npy", "zarr"] if zarr else ["npy"]
    np.save(tmp_path / "images.npy", images)
    once, often = tmp_path / "once", tmp_path / "often"
    once.mkdir()
    often.mkdir()
    found = subprocess.run(
        [sys.executable, "-c", KILLED, often, tmp_path / "images.npy", *suffixes],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    kills = list(map(int, found.stdout.split()))
    assert len(kills) == len(suffixes)
    assert min(kills) > 2
    for suffix in suffixes:
        certify_to(vocabulary, images, once / f"radii.{suffix}", chunk_size=2)
        radii = certify_to(vocabulary, images, often / f"radii.{suffix}", chunk_size=2)
        np.testing.assert_array_equal(radii[:], vocabulary.certify(images))
    assert everything(once) == everything(often)


class Crash(BaseException):
    pass


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_no_moment_of_a_crash_marks_a_chunk_that_is_not_there(
    images, vocabulary, tmp_path, monkeypatch, suffix
):
    if suffix == "zarr":
        pytest.importorskip("zarr")
    path, expected = tmp_path / f"radii.{suffix}", vocabulary.certify(images)
    allowed, crashes, real = 0, 0, os.fsync

    def fsync(number):
        nonlocal left
        if left == 0:
            raise Crash
        left -= 1
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    while True:
        left = allowed
        try:
            radii = certify_to(vocabulary, images, path, chunk_size=CHUNK)
            break
        except Crash:
            crashes += 1
        allowed += 1
        known = stores.Record(path).read()
        for index in known[1] if known else ():
            rows = slice(index * CHUNK, (index + 1) * CHUNK)
            np.testing.assert_array_equal(
                stores.output(path, range(0, N, CHUNK)).view()[rows], expected[rows]
            )
    np.testing.assert_array_equal(radii[:], expected)
    assert crashes > 4


def test_a_line_of_the_record_that_is_cut_anywhere_counts_for_nothing(images, vocabulary, tmp_path):
    path, record = tmp_path / "radii.npy", tmp_path / "radii.npy.progress"
    certify_to(vocabulary, images, path, chunk_size=20)
    whole, output = record.read_bytes(), path.read_bytes()
    head = whole.index(b"\n") + 1
    for end in range(head, len(whole)):
        record.write_bytes(whole[:end])
        certify_to(vocabulary, images, path, chunk_size=20)
        assert record.read_bytes() == whole
        assert path.read_bytes() == output


@pytest.mark.parametrize("chunk", range(3))
@pytest.mark.parametrize("finished", [True, False])
def test_other_images_in_any_finished_chunk_are_noticed(
    images, vocabulary, tmp_path, chunk, finished
):
    path, changed = tmp_path / "radii.npy", images.copy()
    given = images.copy()
    if not finished:
        given[59] = np.nan
        with pytest.raises(ValueError, match="Images 50 to 59"):
            certify_to(vocabulary, given, path, chunk_size=10)
    else:
        certify_to(vocabulary, given, path, chunk_size=10)
    changed[20 * chunk] += 1
    with pytest.raises(ValueError, match=f"images {20 * chunk} to {20 * chunk + 9} are other"):
        certify_to(vocabulary, changed, path, chunk_size=10)
    radii = certify_to(vocabulary, changed, path, chunk_size=10, overwrite=True)
    np.testing.assert_array_equal(radii, vocabulary.certify(changed))


def test_what_is_finished_is_not_done_again_and_what_is_damaged_is(
    images, vocabulary, tmp_path, monkeypatch
):
    path, seen, certified = tmp_path / "radii.npy", Sliceable(images), []
    certify_to(vocabulary, seen, path, chunk_size=20)
    certify = type(vocabulary).certify
    monkeypatch.setattr(type(vocabulary), "certify", lambda self, X, norm: (
        certified.append(len(X)) or certify(self, X, norm)))  # fmt: skip
    assert seen.asked == [(0, 20), (20, 40), (40, 60)]
    whole = path.read_bytes()
    seen.asked.clear()
    certify_to(vocabulary, seen, path, chunk_size=20)
    assert seen.asked == [(0, 20), (20, 40), (40, 60)]  # whether they are the same images
    assert certified == [20]  # one chunk, to see whether it is the same machine
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    certified.clear()
    certify_to(vocabulary, seen, path, chunk_size=20)
    assert certified == [20, 20]
    assert path.read_bytes() == whole
    path.unlink()
    certify_to(vocabulary, seen, path, chunk_size=20)
    assert path.read_bytes() == whole


def test_bad_images_leave_what_came_before_them(images, vocabulary, tmp_path):
    path, bad = tmp_path / "radii.npy", images.copy()
    bad[45] = np.nan
    with pytest.raises(ValueError, match=r"Images 40 to 59: .*NaN"):
        certify_to(vocabulary, bad, path, chunk_size=20)
    mended = Sliceable(images)
    radii = certify_to(vocabulary, mended, path, chunk_size=20)
    assert mended.asked == [(0, 20), (20, 40), (40, 60)]
    np.testing.assert_array_equal(radii, vocabulary.certify(images))


def test_ctrl_c_leaves_a_run_that_goes_on(images, vocabulary, tmp_path):
    class Stopped(Sliceable):
        def __getitem__(self, rows):
            if rows.start == 20:
                raise KeyboardInterrupt
            return super().__getitem__(rows)

    path = tmp_path / "radii.npy"
    with pytest.raises(KeyboardInterrupt):
        certify_to(vocabulary, Stopped(images), path, chunk_size=20)
    rest = Sliceable(images)
    np.testing.assert_array_equal(
        certify_to(vocabulary, rest, path, chunk_size=20), vocabulary.certify(images)
    )
    assert rest.asked[1:] == [(20, 40), (40, 60)]


# ---------------------------------------------------------------------------- bounds


class Made:
    """As many images as one likes, which are nowhere until they are asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, n):
        self.shape = n, 8, 8

    def __getitem__(self, rows):
        assert rows.stop - rows.start <= 500
        return np.random.default_rng(rows.start).random((rows.stop - rows.start, 8, 8), np.float32)


def test_memory_does_not_grow_with_the_number_of_images(vocabulary, tmp_path):
    peaks = []
    for n in (1000, 1000, 20_000):  # the first is for what is made only once
        tracemalloc.start()
        certify_to(vocabulary, Made(n), tmp_path / f"{n}_{len(peaks)}.npy", chunk_size=500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    chunk = 500 * 8 * 8 * 4
    assert peaks[2] < peaks[1] + chunk / 2


def test_a_bar_where_it_is_asked_for(images, vocabulary, tmp_path, capsys):
    certify_to(vocabulary, images, tmp_path / "a.npy", chunk_size=20)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    certify_to(vocabulary, images, tmp_path / "b.npy", chunk_size=20, verbose=True)
    assert "60/60" in capsys.readouterr().err
    certify_to(vocabulary, images, tmp_path / "b.npy", chunk_size=20, verbose=True)
    assert "60/60" in capsys.readouterr().err  # those that were finished before, too
