"""From a folder of photos to a certified model and a report
=========================================================

The script begins with a folder of photos that have several sizes and formats, and one file that is
broken.  It trains a classifier whose first step reads files, certifies every patch of photos that
the classifier has not seen, checks the certificates, and writes a report to open in a browser.

The photos are crops of five pictures that come with scikit-learn and scikit-image.  Crops of one
picture resemble each other, so the test photos come from parts of the pictures that no training
photo shows. ::

    pip install -e ".[plot,denoise]" && python examples/own_photos.py
"""

# sphinx_gallery_thumbnail_path = "images/own_photos.png"

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ImageReader,
    PatchNetClassifier,
    PatchVocabulary,
    load,
    save,
    write_report,
)
from sklearn_patchcert.datasets import load_image_folder

SIZE, PATCH, TOKENS = 64, 4, 64
FORMATS = ("jpg", "png", "webp", "JPG")

start = time.perf_counter()

# %%
# A folder of photos
# ------------------
# The folder has a subfolder for each class.  If you have such a folder, skip this step.
pictures = {
    "astronaut": skimage.data.astronaut(),
    "cat": skimage.data.chelsea(),
    "coffee": skimage.data.coffee(),
    "flower": load_sample_image("flower.jpg"),
    "temple": load_sample_image("china.jpg"),
}
place = tempfile.TemporaryDirectory()
photos, rng = Path(place.name), np.random.default_rng(0)


def cut(picture, folder, count):
    """Write square crops of 64 to 224 pixels per side."""
    folder.mkdir(parents=True)
    for number in range(count):
        side = rng.integers(64, min(*picture.shape[:2], 224) + 1)
        top, left = (rng.integers(n - side + 1) for n in picture.shape[:2])
        crop = Image.fromarray(picture[top : top + side, left : left + side])
        crop.save(folder / f"{number:02}.{FORMATS[number % len(FORMATS)]}", quality=90)


for name, picture in pictures.items():
    middle = 11 * picture.shape[1] // 20
    cut(picture[:, :middle], photos / "train" / name, 40)
    cut(picture[:, middle:], photos / "test" / name, 10)
(photos / "train" / "cat" / "broken.jpg").write_bytes(b"not a picture")

# %%
# Read the folder
# ---------------
# Photos are turned upright, converted to RGB and cropped to one size.  Files that can't be read
# are left out and listed.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the warning counts what is left out, as we do below
    train = load_image_folder(photos / "train", image_size=SIZE, n_jobs=2)
print(f"{len(train.data)} photos for training, {', '.join(train.target_names)}")
for path, reason in train.skipped.items():
    print(f"left out: {Path(path).name}, {reason}")

# %%
# Train
# -----
# The reader is the first step of the model, so the model takes paths.  It also takes the images
# that are already read, because the reader hands on images as they are.
names = np.array(train.target_names)
reader = ImageReader(SIZE, n_jobs=2)
vocabulary = PatchVocabulary(TOKENS, PATCH, strategy="kmeans", random_state=0)
network = PatchNetClassifier(max_epochs=12, random_state=0, verbose=0)
model = CertifiedPatchClassifier([("reader", reader), ("vocab", vocabulary), ("clf", network)])
model.fit(train.data, names[train.target])

# %%
# Certify photos that the model has not seen
# ------------------------------------------
# The units are those of the images that the reader makes, from 0 (black) to 1 (white).  The photo
# is resized before the certificate, so a radius is not about the pixels of the file.
test = load_image_folder(photos / "test", load_content=False)  # paths
y = names[test.target]
radii = model.certify(test.data)
found = model.certify_prediction(test.data[::5], max_configurations=500)
print(f"accuracy on {len(y)} test photos        {100 * model.score(test.data, y):6.1f} %")
print(f"mean radius of a patch             {radii.mean():6.3f}")
print(f"smallest radius of a photo, mean   {radii.min(axis=(1, 2)).mean():6.3f}")
print(f"certified radius of 10 predictions {found.radius.mean():6.3f} (mean)")

# %%
# Check the claim
# ---------------
# Move every patch of every photo almost to the boundary of its cell.  No token changes, so no
# prediction changes.
images = reader.transform(test.data)
_, witness = model.certify(images, return_witness=True)
moved = images + (1 - 1e-4) * witness.perturbation
assert (model["vocab"].tokenize(moved) == model["vocab"].tokenize(images)).all()
assert (model.predict(moved) == model.predict(test.data)).all()
print("moved almost to the radius, no patch of any photo changes its token")

# %%
# Save the model
# --------------
# The file holds the reader, too, so new photos are prepared like those of training.
path = photos / "photos.patchcert"
save(model, path)
assert (load(path).certify(test.data) == radii).all()  # equal bits

# %%
# Write a report
# --------------
# The page needs no network: accuracy, certified accuracy by radius, the vocabulary, and the weakest
# and the strongest photos under their maps.
report = write_report(model, test.data, y, "own_photos.html", units="of 0 to 1", title="Photos")
print(f"the report on {report.n_images} photos is in own_photos.html")

# %%
# Look at the maps
# ----------------
# One test photo of each class.  In bright parts of the map, a patch may change a lot before its
# token does.
try:
    from sklearn_patchcert import CertificateDisplay

    display = CertificateDisplay.from_estimator(
        model,
        test.data[::10],
        y[::10],
        units="of 0 to 1",
    )
    display.figure_.savefig("own_photos.png", dpi=100)
    print("the maps of five photos are in own_photos.png")
except ImportError:
    print("no picture: matplotlib is not installed")
place.cleanup()
print(f"{time.perf_counter() - start:.0f} s")
