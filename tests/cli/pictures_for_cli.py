"""Folders of small pictures with oddities, and commands run in this process."""

import csv
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from sklearn_patchcert.cli import main

CLASSES = {"blue": (40, 60, 210), "green": (50, 190, 60), "red": (220, 50, 40)}


def run(*arguments):
    return main([*map(str, arguments)])


def noisy(color, size=(20, 26), seed=0):
    """A picture of about one color, whose upper left corner is dark."""
    noise = np.random.default_rng(seed).normal(0, 25, (*size, 3))
    pixels = np.clip(np.array(color) + noise, 0, 255)
    pixels[: size[0] // 3, : size[1] // 3] //= 4
    return pixels.astype(np.uint8)


def make_photos(folder, count=8):
    """Pictures of all formats, all of them good."""
    for at, (name, color) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            size = (18 + (3 * i) % 11, 20 + (5 * i) % 9)
            ending = ("jpg", "png", "JPG", "webp", "bmp", "tiff")[i % 6]
            picture = Image.fromarray(noisy(color, size, 100 * at + i))
            picture.save(folder / name / f"{i:03}.{ending}")
    return folder


def make_odd(folder):
    """Odd pictures that can be read, and bad ones, with a word of the reason, by their names."""
    pixels = noisy(CLASSES["red"], seed=7)
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    red = folder / "red"
    upright.rotate(90, expand=True).save(red / "turned.png", exif=exif)
    upright.save(red / "upright.png")
    upright.convert("RGBA").save(red / "alpha.png")
    upright.convert("P").save(red / "palette.png")
    upright.convert("CMYK").save(red / "ink.jpg")
    gray = np.asarray(upright.convert("L"))
    Image.fromarray(gray).save(red / "gray8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(red / "gray16.tiff")
    Image.fromarray(gray.astype(np.uint16) * 257).save(red / "gray16.png")
    upright.save(red / "many.gif", save_all=True, append_images=[upright.rotate(180)])
    np.save(red / "array.npy", pixels)
    (red / ".hidden.png").write_bytes(b"")
    bad = {
        "red/nonsense.jpg": (b"this is no picture", "no picture"),
        "blue/cut.png": ((red / "upright.png").read_bytes()[:300], "truncated"),
        "blue/empty.webp": (b"", "empty"),
        "blue/notes.txt": (b"a text", "not the name of a picture"),
        "loose.txt": (b"a text", ""),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    os.symlink("circle.png", folder / "blue" / "circle.png")
    os.symlink("nowhere.png", folder / "blue" / "broken.png")
    os.symlink("..", folder / "blue" / "up", target_is_directory=True)
    (folder / "green" / "deeper").mkdir()
    upright.save(folder / "green" / "deeper" / "<script>alert(1)<script>.png")
    reasons = {name: reason for name, (_, reason) in bad.items()}
    return {**reasons, "blue/circle.png": "", "blue/broken.png": "no such file"}


def table(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def files_of(folder, hidden=False):
    """What files hold, by their names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and (hidden or not path.name.startswith("."))
    }


def parsed(text):
    """JSON of the standard, in which there is no NaN."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)
