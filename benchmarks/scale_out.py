"""What 1.28 million images of 224 x 224 pixels would cost, from what a few of them cost here.

    python benchmarks/scale_out.py [--images 24]

Shows that certifying all patches of ImageNet's training images is the work of one machine for
hours, that writing them out of core adds little to it, and that certificates of *predictions* are
what a cluster is for.  Images are details of photographs that scikit-learn and scikit-image bring
along, at ImageNet's usual size.  Times are CPU seconds of one thread, the smallest of several
repeats, since others may share the machine; the baseline is a plain read of the file.  The figures
for all images are these times multiplied, nothing else.

The network, a PatchResNet on the grid of patches, is not trained: what it answers does not matter
to what it costs.  Result: benchmarks/results/scale_out.json, shown in docs/scale.rst.
"""

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from common import save
from skimage import data as photographs
from sklearn.datasets import load_sample_images
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.networks import PatchResNet
from sklearn_patchcert.outofcore import certify_to
from sklearn_patchcert.outofcore.stores import checksum, output
from sklearn_patchcert.smoothing import SmoothedClassifier

SIDE, PATCH = 224, 4
ALL = 1_281_167  # ImageNet's training images
COPIES = CONFIGURATIONS = 10_000
CASES = [(64, False), (512, False), (4096, False), (512, "shared"), (4096, "shared")]


def details(n, seed):
    """Details (n, SIDE, SIDE, 3) of photographs, uint8."""
    random = np.random.default_rng(seed)
    photos = [*load_sample_images().images, photographs.astronaut(), photographs.coffee()]
    photos += [photographs.chelsea(), photographs.rocket(), photographs.stereo_motorcycle()[0]]
    found = np.empty((n, SIDE, SIDE, 3), np.uint8)
    for index in range(n):
        photo = photos[index % len(photos)]
        top, left = (random.integers(size - SIDE + 1) for size in photo.shape[:2])
        found[index] = photo[top : top + SIDE, left : left + SIDE]
    return found


def cpu(*work, repeats=3):
    """Smallest CPU seconds of each of several calls, made by turns."""
    times = np.full((repeats, len(work)), np.inf)
    for turn in range(repeats):
        for index, do in enumerate(work):
            start = time.process_time()
            do()
            times[turn, index] = time.process_time() - start
    return times.min(0).tolist()


def certificates(train, images):
    """CPU seconds an image for all patches, by vocabulary."""
    rows = []
    for n_tokens, per_channel in CASES:
        vocabulary = PatchVocabulary(
            n_tokens, PATCH, strategy="kmeans", per_channel=per_channel, random_state=0
        ).fit(train)
        one = vocabulary.certify(images[:1])  # so that everything is compiled
        (seconds,) = cpu(lambda v=vocabulary: v.certify(images))
        rows.append(
            {
                "n_tokens": n_tokens,
                "per_channel": str(per_channel),
                "patches": one.size,
                "bytes": one.nbytes,
                "seconds": seconds / len(images),
            }
        )
        print(rows[-1])
    return rows


def out_of_core(train, images, chunk_size):
    """CPU seconds an image: in memory, out of core, for checksums of the output, merely read."""
    vocabulary = PatchVocabulary(512, PATCH, strategy="kmeans", random_state=0).fit(train)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        certify_to(vocabulary, images[:2], folder / "first.npy")
        path, given, options = folder / "all.npy", folder / "images.npy", {"chunk_size": chunk_size}

        def fresh():
            for old in folder.glob("all.npy*"):
                old.unlink()
            return certify_to(vocabulary, given, path, **options)

        assert np.array_equal(fresh(), vocabulary.certify(images))
        store = output(path, range(0, len(images), chunk_size))
        inside, outside, check, read = cpu(
            lambda: vocabulary.certify(images),
            fresh,
            lambda: [checksum(store.read(index)) for index in range(len(store.starts))],
            lambda: np.load(given).sum(),
            repeats=5,
        )
        tracemalloc.start()
        fresh()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    n = len(images)
    return {
        "chunk_size": chunk_size,
        "in_memory": inside / n,
        "out_of_core": outside / n,
        "checksums": check / n,
        "read": read / n,
        "megabytes": peak / 2**20,
    }


def predictions(train, images):
    """CPU seconds of one noisy copy and of one configuration of tokens."""
    model = CertifiedPatchClassifier(
        [
            ("vocab", PatchVocabulary(512, PATCH, strategy="kmeans", random_state=0)),
            ("clf", PatchNetClassifier(PatchResNet, max_epochs=1, lr=1e-9, random_state=0)),
        ]
    ).fit(train, np.arange(len(train)) % 10)
    copies = configurations = 256
    frozen = FrozenEstimator(model)
    smoothed = SmoothedClassifier(frozen, 10.0, n=copies, batch_size=64, random_state=0)
    smoothed.fit(train, np.arange(len(train)) % 10)
    options = {"max_configurations": configurations}
    looked = model.certify_prediction(images[:1], **options).n_configurations.sum()
    copy, enumeration = cpu(
        lambda: smoothed.predict(images[:1]),
        lambda: model.certify_prediction(images[:1], **options),
    )
    return {"copy": copy / copies, "configuration": enumeration / int(looked)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    n = parser.parse_args().images
    torch.set_num_threads(1)
    train, images, more = details(28, seed=0), details(n, seed=1), details(4 * n, seed=2)
    result = {
        "settings": {"images": n, "side": SIDE, "patch_size": PATCH},
        "all": {"images": ALL, "copies": COPIES, "configurations": CONFIGURATIONS},
        "certificates": certificates(train, images),
        "out_of_core": out_of_core(train, more, chunk_size=n),
        "predictions": predictions(train, images),
    }
    print(result["out_of_core"], result["predictions"])
    save("scale_out", result)


if __name__ == "__main__":
    main()
