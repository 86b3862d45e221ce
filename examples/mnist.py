"""MNIST with standardized pixels
==============================

16 tokens of 4 x 4 pixels, a network, and a radius for every patch.  The images come from the cache
of :func:`~sklearn_patchcert.datasets.load_images` or are downloaded once.  The standardizer is a
step of the pipeline, so radii are in gray levels of the original images, from 0 to 255.  Divided by
the standard deviation of the pixels, they are in standardized units. ::

    python examples/mnist.py [--images 20000] [--epochs 3]
"""

# sphinx_gallery_thumbnail_path = "images/mnist.png"

import argparse

from sklearn_patchcert import (
    CertificateDisplay,
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--images", type=int, default=20_000, help="how many to train on")
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()

data = load_images("mnist")
model = CertifiedPatchClassifier(
    [
        ("scale", ChannelStandardizer()),
        ("vocab", PatchVocabulary(n_tokens=16, patch_size=4, random_state=0, verbose=1)),
        ("clf", PatchNetClassifier(max_epochs=options.epochs, random_state=0, verbose=1)),
    ]
)
model.fit(data.X_train[: options.images], data.y_train[: options.images])
radii = model.certify(data.X_test)
std = model["scale"].scale_.item()
accuracy = 100 * model.score(data.X_test, data.y_test)
print(f"accuracy on {len(radii)} test images          {accuracy:.2f} %")
print(f"mean radius of a patch, gray levels (L2)   {radii.mean():.1f}")
print(f"the same in standardized units             {radii.mean() / std:.2f}")

try:
    display = CertificateDisplay.from_estimator(model, data.X_test[:3], units="gray levels")
    display.figure_.savefig("mnist.png", dpi=100)
    print("the maps of three images are in mnist.png")
except ImportError:
    print("no picture: matplotlib is not installed")
