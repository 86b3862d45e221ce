"""More images than fit in memory
==============================

The script writes a file with details of photographs.  Then it limits its own memory (`RLIMIT_DATA`,
on systems that have it), so that the file does not fit.  Reading the file fails, but `certify_to`
certifies it chunk by chunk and writes the maps to another file.  If you kill the process and start
it again, it continues with the first unfinished chunk.  At the end, some images are certified again
on their own, and their radii must be equal, to the last bit. ::

    python examples/out_of_core.py [--folder FOLDER]
"""

# sphinx_gallery_thumbnail_path = "images/out_of_core.png"

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
    """Write square details of two photographs as uint8; return some of them."""
    photos, random = load_sample_images().images, np.random.default_rng(0)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (COUNT, SIDE, SIDE, 3))
    for index in range(COUNT):
        photo = photos[index % 2]
        top, left = (random.integers(size - SIDE + 1) for size in photo.shape[:2])
        images[index] = photo[top : top + SIDE, left : left + SIDE]
    return images[: COUNT // 64].copy()


def megabytes(field, of="status"):
    """A line of Linux's report on this process, in MB, or None on other systems."""
    report = Path(f"/proc/self/{of}")
    lines = report.read_text().splitlines() if report.exists() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")]
    return found[0] if found else None


def main(folder):
    images, radii = folder / "images.npy", folder / "radii.npy"
    few = write_images(images)
    vocabulary = PatchVocabulary(64, 4, strategy="kmeans", random_state=0).fit(few)
    certify_to(vocabulary, few, folder / "few.npy")  # compiles everything
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
    assert np.array_equal(found[some], again), "radii in the file differ from those of the images"
    start = time.perf_counter()
    certify_to(vocabulary, images, radii, chunk_size=1024)
    print(f"a second run checks the file and keeps it: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the files there and continue from them")
    chosen = parser.parse_args().folder
    if chosen is None:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
    else:
        chosen.mkdir(exist_ok=True)
        main(chosen)
