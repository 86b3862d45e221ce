"""Memory and time of training on large pictures: the default network, and a ResNet-18 of one's own.

    python benchmarks/training_memory.py [--repeats 2]

Shows that a fit at the defaults, with batches of 128 images of 224 x 224 pixels in color, stays
below 2 GiB: the first convolution of the default network has a stride on large pictures, and
batches of any module are split to fit `working_memory`.  The baselines are the default network with
`module__stride=1`, and both with `working_memory=None`.  Besides, bfloat16 (`autocast=True`) and
batches in the format channels_first, which are given in channels_last otherwise.  Each measurement
is a process of its own; the peak is that of the whole process, torch and images included.  The
pictures are random: what they show matters for neither figure.

Result: benchmarks/results/training_memory.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from common import save
from torch import nn

LIMIT = 2.0
WHOLE = {"working_memory": None}
CASES = {  # name: network, side of the pictures, how many, options, whether below the limit
    "64 pixels, 256 pictures": ("default", 64, 256, {}, True),
    "224 pixels, 60 pictures": ("default", 224, 60, {}, True),
    "224 pixels, 256 pictures": ("default", 224, 256, {}, True),
    "224 pixels, 256 pictures, channels first": ("channels first", 224, 256, {}, True),
    "224 pixels, 256 pictures, bfloat16": ("default", 224, 256, {"autocast": True}, True),
    "224 pixels, 60 pictures, stride 1": ("default", 224, 60, {"module__stride": 1}, True),
    "224 pixels, 60 pictures, stride 1, whole batches": (
        "default", 224, 60, {"module__stride": 1, **WHOLE}, False,
    ),
    "ResNet-18, 224 pixels, 128 pictures": ("resnet", 224, 128, {}, True),
    "ResNet-18, 224 pixels, 128 pictures, bfloat16": (
        "resnet", 224, 128, {"autocast": True}, True,
    ),
    "ResNet-18, 224 pixels, 128 pictures, whole batches": ("resnet", 224, 128, WHOLE, False),
}  # fmt: skip


class Residual(nn.Module):
    """Two convolutions beside nothing, or beside a 1x1 convolution."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.beside = nn.Sequential()
        if stride > 1:
            self.beside.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.beside.append(nn.BatchNorm2d(outputs))

    def forward(self, x):
        return (self.inner(x) + self.beside(x)).relu_()


def resnet(n_outputs=3):
    """ResNet-18, as torchvision has it."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
              nn.MaxPool2d(3, 2, 1), Residual(64, 64, 1), Residual(64, 64, 1)]  # fmt: skip
    for width in (128, 256, 512):
        layers += [Residual(width // 2, width, 2), Residual(width, width, 1)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, n_outputs)
    )  # fmt: skip


def channels_first(image_shape, n_outputs, mean, std):
    """The default network, which copies its batches to another format first."""
    from sklearn_patchcert.networks import PatchConvNet

    class Format(nn.Module):
        def forward(self, images):
            return images.contiguous()

    return nn.Sequential(Format(), PatchConvNet(image_shape, n_outputs, mean, std))


def measure(network, side, n, options, below):
    """Train, and print the peak of this process in GiB, the seconds, the images at once."""
    from sklearn_patchcert import PatchNetClassifier

    made = {"default": {}, "channels first": {"module": channels_first}, "resnet": {}}[network]
    if network == "resnet":
        made = {"module": resnet()}
    X = np.random.default_rng(0).random((n, side, side, 3), dtype=np.float32)
    start = time.perf_counter()
    net = PatchNetClassifier(max_epochs=1, random_state=0, **made, **options)
    net.fit(X, np.arange(n) % 3)
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps([peak, spent, net.micro_batch_size_]))


def measured(case):
    command = [sys.executable, __file__, "--measure", json.dumps(case)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(*json.loads(arguments.measure))
    load = os.getloadavg()[0]
    found = {name: [] for name in CASES}
    for _ in range(arguments.repeats):
        for name, case in CASES.items():
            found[name].append(measured(case))
            print(name, found[name][-1], flush=True)
    rows = {}
    for name, values in found.items():
        peaks, seconds, at_once = zip(*values, strict=True)
        rows[name] = {
            "peak_gib": max(peaks),
            "seconds": float(np.median(seconds)),
            "seconds_from_to": [min(seconds), max(seconds)],
            "images_at_once": at_once[0],
        }
    below = all(rows[name]["peak_gib"] < LIMIT for name, case in CASES.items() if case[-1])
    settings = {"repeats": arguments.repeats, "limit_gib": LIMIT, "load_at_start": load}
    save("training_memory", {"settings": settings, "rows": rows, "below": below})
    assert below, "training takes too much memory"


if __name__ == "__main__":
    main()
