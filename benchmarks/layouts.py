"""What it saves on a CPU that networks on pixels keep their weights with the channels last.

    python benchmarks/layouts.py [--repeats 15] [--batch 250] [--threads 1]

Shows the time of one step of training and of one prediction of a batch, for the networks of the
other tables, in bfloat16 and in float32, and as the baseline those of the same network with its
weights in torch's usual layout.  The two take turns.  A ratio is the median of those of the turns,
between the quartiles.

Result: benchmarks/results/layouts.json.
"""

import argparse
import copy
import time

import numpy as np
import torch
from common import save
from torch.nn.functional import cross_entropy

from sklearn_patchcert.networks import ImageResNet, WhiteningConvNet

NETWORKS = {
    "CIFAR-10, WhiteningConvNet, 64 channels": (WhiteningConvNet, (32, 32, 3), 64),
    "CIFAR-10, WhiteningConvNet, 32 channels": (WhiteningConvNet, (32, 32, 3), 32),
    "MNIST, ImageResNet, 12 channels": (ImageResNet, (28, 28, 1), 12),
}


def trained(network, X, y, half):
    """Seconds of the gradient of one batch."""
    network.train()
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        outputs = network(X)
    cross_entropy(outputs.float(), y).backward()
    return time.perf_counter() - start


@torch.no_grad()
def predicted(network, X, y, half):
    """Seconds of the outputs of one batch."""
    network.eval()
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        network(X)
    return time.perf_counter() - start


def compared(kind, shape, width, half, what, options):
    """Medians of both layouts, and the quartiles of their ratio."""
    torch.manual_seed(0)
    last = kind(shape, n_outputs=10, width=width)
    first = copy.deepcopy(last).to(memory_format=torch.contiguous_format)
    X = torch.randn(options.batch, shape[2], *shape[:2])
    y = torch.randint(10, (options.batch,))
    turns = [[what(net, X, y, half) for net in (last, first)] for _ in range(options.repeats + 2)]
    times = np.array(turns[2:])  # the first prepare much
    low, ratio, high = np.percentile(times[:, 0] / times[:, 1], [25, 50, 75]).tolist()
    seconds = np.median(times, axis=0).tolist()
    return {"ratio": ratio, "from": low, "to": high, "last": seconds[0], "first": seconds[1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, network in NETWORKS.items():
        for half in (True, False):
            for what in (trained, predicted):
                row = compared(*network, half, what, options)
                step = what.__name__
                rows.append({"network": name, "half": half, "step": step, **row})
                label = f"{name}, {'bfloat16' if half else 'float32'}, {step}"
                print(f"{label:66}{row['ratio']:6.2f} ({row['from']:.2f} to {row['to']:.2f})")
    save("layouts", {"settings": vars(options), "seed": 0, "rows": rows})


if __name__ == "__main__":
    main()
