"""More images than fit in memory
==============================

A file of photographs' details is made, larger than the memory that this process then allows
itself (`RLIMIT_DATA`, where the system has it).  Reading the file fails; `certify_to` goes through
it chunk by chunk, maps of radii land in another file, and if the process is killed, starting it
again goes on with the chunk that was not finished.  At the end some images are certified once more
by themselves, and their radii must be the same to the last bit. ::

    python examples/out_of_core.py [--folder FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.outofcore import certify_to

try:
    import resource
except ImportError:  # Windows: no limit there
    resource = None

SIDE, COUNT, LIMIT = 64, 16_384, 128  # pixels, images, megabytes


def write_images(path):
    """Square details of two photographs, uint8, written a thousand at a time."""
    photos, random = load_sample_images().images, np.random.default_rng(0)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (COUNT, SIDE, SIDE, 3))
    for index in range(COUNT):
        photo = photos[index % 2]
        top, left = (random.integers(size - SIDE + 1) for size in photo.shape[:2])
        images[index] = photo[top : top + SIDE, left : left + SIDE]
    return images[: COUNT // 64].copy()


def megabytes(field, of="status"):
    """A line of Linux's report on this process, in MB; None elsewhere."""
    report = Path(f"/proc/self/{of}")
    lines = report.read_text().splitlines() if report.exists() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")]
    return found[0] if found else None


def main(folder):
    images, radii = folder / "images.npy", folder / "radii.npy"
    few = write_images(images)
    vocabulary = PatchVocabulary(64, 4, strategy="kmeans", random_state=0).fit(few)
    certify_to(vocabulary, few, folder / "few.npy")  # so that everything is compiled
    size, before = images.stat().st_size / 2**20, megabytes("VmData")
    print(f"{COUNT:,} images of {SIDE} x {SIDE} pixels, {size:.0f} MB")
    limited = resource is not None and before is not None
    if limited:
        most = int((before + LIMIT) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
        try:
            np.load(images)
            raise AssertionError("the images fit: this shows nothing")
        except MemoryError:
            print(f"allowed {LIMIT} MB more than now, np.load fails: they do not fit")

    start = time.perf_counter()
    found = certify_to(vocabulary, images, radii, chunk_size=1024, verbose=True)
    seconds = time.perf_counter() - start
    print(f"{found.size:,} radii in {seconds:.0f} s: {found.size / seconds:,.0f} patches a second")
    if limited:
        print(f"at its end the process has {megabytes('VmData') - before:.0f} MB more than before")

    some = np.random.default_rng(1).choice(COUNT, 64, replace=False)
    again = vocabulary.certify(np.load(images, mmap_mode="r")[some])
    assert np.array_equal(found[some], again), "radii in the file are not those of the images"
    start = time.perf_counter()
    certify_to(vocabulary, images, radii, chunk_size=1024)
    print(f"asked once more, the file is checked and kept: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the files there, and go on from them")
    chosen = parser.parse_args().folder
    if chosen is None:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
    else:
        chosen.mkdir(exist_ok=True)
        main(chosen)
