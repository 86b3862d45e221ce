"""How fast ImageReader reads photos, against torchvision's ImageFolder in the same run.

    python benchmarks/reading.py [--pictures 2000] [--rounds 5] [--beside TEXT]

Shows that `ImageReader(224, n_jobs=2)` reads 2,000 JPEG files of 500 x 375 pixels within 1.2 times
the time of torchvision's ImageFolder with Resize, CenterCrop and ToTensor and two workers of a
DataLoader.  The files, of quality 90, are crops of scikit-learn's and scikit-image's pictures.
Rounds alternate, and each ratio is from one round, so that other work on the machine slows both.
"whole" makes one array of all images.  "batches" hands on 64 images at a time, as the loader does.
The loader keeps no images.

Needs torchvision.  Result: benchmarks/results/reading.json.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
from common import save
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import datasets, transforms

from sklearn_patchcert import ImageReader
from sklearn_patchcert.datasets import load_image_folder

SIZE, JOBS, BATCH, LIMIT = 224, 2, 64, 1.2
WIDTH, HEIGHT, QUALITY = 500, 375, 90


def write(folder, count):
    """JPEG files in a folder for each picture that they are cut from."""
    sources = {
        "flower": load_sample_image("flower.jpg"),
        "temple": load_sample_image("china.jpg"),
        "astronaut": skimage.data.astronaut(),
        "coffee": skimage.data.coffee(),
    }
    rng = np.random.default_rng(0)
    for at in range(count):
        name = list(sources)[at % len(sources)]
        source = sources[name]
        top = rng.integers(source.shape[0] - HEIGHT + 1)
        left = rng.integers(source.shape[1] - WIDTH + 1)
        picture = Image.fromarray(source[top : top + HEIGHT, left : left + WIDTH])
        (folder / name).mkdir(exist_ok=True)
        picture.save(folder / name / f"{at:05}.jpg", quality=QUALITY)


def loaded(folder):
    """Read all files with torchvision; return how many."""
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    found = datasets.ImageFolder(folder, transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(found, BATCH, num_workers=JOBS)
    return sum(len(images) for images, _ in loader)


def timed(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def summary(values):
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": middle, "quartiles": [low, high], "values": list(values)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", default="nothing", help="what else the machine did meanwhile")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reader = ImageReader(SIZE, n_jobs=JOBS)
    times = {"torchvision": [], "whole": [], "batches": []}
    load = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, options.pictures)
        paths = load_image_folder(folder, load_content=False).data
        assert len(paths) == loaded(folder) == options.pictures  # also a round to warm up
        assert reader.transform(paths[:64]).shape == (64, SIZE, SIZE, 3)
        for _ in range(options.rounds):
            load.append(os.getloadavg()[0])
            times["torchvision"].append(timed(loaded, folder))
            times["whole"].append(timed(reader.transform, paths))
            times["batches"].append(timed(lambda: sum(map(len, reader.batches(paths)))))
            print({name: round(values[-1], 2) for name, values in times.items()})
    ratios = {
        name: summary(np.divide(times[name], times["torchvision"])) for name in ("whole", "batches")
    }
    result = {
        "settings": {
            "pictures": options.pictures, "size": [WIDTH, HEIGHT], "quality": QUALITY,
            "image_size": SIZE, "jobs": JOBS, "batch": BATCH, "rounds": options.rounds,
            "limit": LIMIT,
        },
        "beside": options.beside,
        "load_before_each_round": load,
        "seconds": {name: summary(values) for name, values in times.items()},
        "ratio_to_torchvision": ratios,
        "under_the_limit": {name: bool(row["median"] <= LIMIT) for name, row in ratios.items()},
    }  # fmt: skip
    save("reading", result)
    for name, row in ratios.items():
        print(f"{name}: {row['median']:.2f} times torchvision's time")


if __name__ == "__main__":
    main()
