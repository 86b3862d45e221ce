"""ImageReader: what a picture is does not depend on how a file holds it; broken files say so."""

import os
import struct
import zlib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageOps
from sklearn.base import clone
from sklearn.datasets import load_sample_image

from sklearn_patchcert.datasets import ImageReader
from sklearn_patchcert.datasets.pictures import picture_suffixes, read_picture

PHOTO = load_sample_image("china.jpg")[100:163, 200:281]  # 63 x 81 pixels
GRAY = np.asarray(Image.fromarray(PHOTO).convert("L"))


def read(path, size=None, **options):
    return ImageReader(size, **options).transform([path])[0]


def save(folder, name, picture=PHOTO, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(folder / name, **options)
    return folder / name


# ---------------------------------------------------------------------------- one picture


@pytest.mark.parametrize(
    "ending", ["png", "bmp", "tiff", "webp", "ppm", "tga", "npy", "PNG", "jp2"]
)
def test_formats_without_loss_give_the_same_image(tmp_path, ending):
    path = tmp_path / f"photo.{ending}"
    if ending == "npy":
        np.save(path, PHOTO)
    else:
        options = {"lossless": True} if ending == "webp" else {}
        save(tmp_path, path.name, **options)
    np.testing.assert_array_equal(read(path), PHOTO.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "webp", "gif"])
def test_formats_with_loss_give_nearly_the_same_image(tmp_path, ending):
    image = read(save(tmp_path, f"photo.{ending}"))
    assert image.shape == PHOTO.shape
    assert np.abs(image - PHOTO / 255).mean() < 0.06


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_every_mode_becomes_color_or_gray(tmp_path, mode, wanted):
    gray = np.full((8, 9), 0.6, dtype=np.float32)
    if mode == "I;16":
        picture = Image.fromarray((gray * 65535).astype(np.uint16))
    elif mode == "F":
        picture = Image.fromarray(gray)
    else:
        base = Image.new("L", (9, 8), 255 if mode == "1" else 153)
        base = base.convert("RGB") if mode in ("CMYK", "YCbCr") else base
        picture = base.convert("P" if mode == "PA" else mode)
        if mode == "PA":  # as files hold it: a palette with a transparent color
            picture.info["transparency"] = 0
    ending = "tiff" if mode in ("CMYK", "YCbCr", "F") else "png"
    image = read(save(tmp_path, f"one.{ending}", picture), mode=wanted)
    assert image.shape == ((8, 9) if wanted == "L" else (8, 9, 3))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, 1.0 if mode == "1" else 0.6, atol=0.01)


def test_eight_and_sixteen_bits_are_the_same_picture(tmp_path):
    deep = GRAY.astype(np.uint16) * 257
    eight = read(save(tmp_path, "8.png", GRAY), mode="L")
    np.save(tmp_path / "16.npy", deep)
    for path in save(tmp_path, "16.png", deep), save(tmp_path, "16.tif", deep), tmp_path / "16.npy":
        np.testing.assert_allclose(read(path, mode="L"), eight, atol=1e-6)
        for resize in ("crop", "pad", "stretch"):
            options = {"mode": "L", "resize": resize, "size": (20, 40)}
            other = read(tmp_path / "8.png", **options)
            np.testing.assert_allclose(read(path, **options), other, atol=1.5 / 255)


def test_transparent_pixels_lie_on_the_background(tmp_path):
    alpha = np.linspace(0, 255, GRAY.size).reshape(GRAY.shape).astype(np.uint8)
    path = save(tmp_path, "clear.png", np.dstack([PHOTO, alpha]))
    for name, color in (("white", 1.0), ("black", 0.0), ("#ff0000", np.array([1.0, 0, 0]))):
        share = alpha[..., None] / 255
        expected = share * PHOTO / 255 + (1 - share) * color
        np.testing.assert_allclose(read(path, background=name), expected, atol=1.1 / 255)


def test_orientation_of_the_camera_is_applied(tmp_path):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = PHOTO.astype(np.float32) / np.float32(255)
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = Image.fromarray(PHOTO).transpose(turn)
        path = save(tmp_path, f"{orientation}.png", turned, exif=exif)
        np.testing.assert_array_equal(read(path), upright)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (9, 8), color) for color in ("red", "blue", "green")]
    for name in ("moving.gif", "moving.webp", "pages.tiff"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_allclose(read(tmp_path / name)[0, 0], [1, 0, 0], atol=0.01)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    own=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.sampled_from(["crop", "pad", "stretch"]),
    interpolation=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
    kind=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_any_picture_becomes_any_size(tmp_path_factory, size, own, resize, interpolation, kind):
    path = tmp_path_factory.mktemp("sizes") / "one.npy"
    rng = np.random.default_rng(0)
    top = 1 if kind == np.float32 else np.iinfo(kind).max
    np.save(path, (rng.random((*own, 3)) * top).astype(kind))
    image = read(path, size, resize=resize, interpolation=interpolation)
    assert image.shape == (*size, 3)
    assert image.min() >= 0
    assert image.max() <= 1


def test_what_crop_pad_and_stretch_keep(tmp_path):
    halves = np.zeros((40, 80, 3), dtype=np.uint8)
    halves[:, :20], halves[:, 60:] = 255, 255  # a black square between two white bars
    path = save(tmp_path, "wide.png", halves)
    assert not read(path, 40).any()  # crop: the square alone
    padded = read(path, 40, background="red")
    padded = read(path, 40, resize="pad", background="red")
    np.testing.assert_array_equal(padded[0, 0], [1, 0, 0])
    assert padded[20, 0].tolist() == [1, 1, 1]
    stretched = read(path, 40, resize="stretch", interpolation="nearest")
    assert stretched[:, :10].all()
    assert not stretched[:, 10:30].any()


# ---------------------------------------------------------------------------- broken files


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_broken(folder):
    """Files that are no pictures, by name."""
    whole = save(folder, "whole.jpg").read_bytes()
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    texts = {
        "truncated.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "text.jpg": b"no picture at all",
        "page.gif": b"<script>alert(1)</script>",
        "bomb.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"x"),
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "cut.npy": b"\x93NUMPY\x01",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    arrays = {
        "objects.npy": np.array([{}], dtype=object), "wide.npy": np.zeros((4, 4, 2)),
        "none.npy": np.zeros((0, 4)), "long.npy": np.zeros((4, 4), dtype=np.int64),
        "bright.npy": np.full((4, 4), 255.0), "nan.npy": np.full((4, 4), np.nan),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=True)
    (folder / "folder.png").mkdir()
    return [folder / name for name in [*texts, *arrays, "folder.png", "missing.jpg"]]


def test_every_broken_file_is_one_error_with_its_path(tmp_path):
    for path in make_broken(tmp_path):
        with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_left_out_aloud(tmp_path):
    broken = make_broken(tmp_path)
    paths = [*broken[:3], tmp_path / "whole.jpg", *broken[3:]]
    reader = ImageReader(on_error="warn")
    with pytest.warns(UserWarning, match=r"15 picture.*truncated\.jpg"):
        images = reader.transform(paths)
    assert images.shape == (1, *PHOTO.shape)
    _, failed = reader.read(paths)
    assert set(failed) == set(range(len(paths))) - {3}
    with pytest.raises(ValueError, match="labels"):
        reader.fit_transform(paths, np.zeros(len(paths)))
    with pytest.raises(ValueError, match=r"None.*truncated"):
        reader.transform(broken)
    with pytest.raises(ValueError, match=r"truncated\.jpg"):
        ImageReader().transform(paths)


def test_sizes_that_differ_are_refused_by_both(tmp_path):
    paths = [save(tmp_path, "one.png"), save(tmp_path, "two.png", PHOTO[:10])]
    for reader in ImageReader(), ImageReader(resize=None):
        with pytest.raises(ValueError, match=r"two\.png.*10 x 81 .*63 x 81"):
            reader.transform(paths)
    with pytest.raises(ValueError, match=r"two\.png.*10 x 81 .*63 x 81"):
        ImageReader((63, 81), resize=None).transform(paths)


# ---------------------------------------------------------------------------- many files


def test_paths_of_every_kind_and_images_themselves(tmp_path):
    paths = [save(tmp_path, f"{at}.png", PHOTO[at:][:30]) for at in range(5)]
    texts = [str(path) for path in paths]
    expected = ImageReader().transform(paths)
    frame = pd.DataFrame({"path": texts})
    for X in texts, np.array(texts), np.array(paths), frame["path"], frame, frame.to_numpy():
        np.testing.assert_array_equal(ImageReader().transform(X), expected)
    assert ImageReader().transform(expected) is expected
    for X in texts[0], paths[0], [1, 2], [None], np.zeros((3, 2)):
        with pytest.raises((TypeError, ValueError), match="path"):
            ImageReader().transform(X)
    with pytest.raises(ValueError, match="no paths"):
        ImageReader().transform([])


def test_jobs_change_nothing(tmp_path):
    paths = [save(tmp_path, f"{at}.jpg", PHOTO[at:]) for at in range(20)]
    expected = ImageReader(24).transform(paths)
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(ImageReader(24).transform(paths), expected)
    np.testing.assert_array_equal(ImageReader(24, n_jobs=2).transform(paths), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 0}, {"image_size": (3, 4, 5)}, {"image_size": True}, {"mode": "RGBA"},
        {"image_size": (3.5, 4)}, {"image_size": ("3", 4)},
        {"resize": "fit"}, {"interpolation": "cubic"}, {"background": "whitish"},
        {"on_error": "ignore"},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(tmp_path, options):
    path = save(tmp_path, "one.png")
    for act in ("fit", "transform"):
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            getattr(ImageReader(**options), act)([path])


def test_it_is_an_estimator():
    reader = ImageReader(32, mode="L", on_error="warn")
    assert clone(reader).get_params() == reader.get_params()
    assert {".jpg", ".jpeg", ".tif", ".webp", ".npy"} <= picture_suffixes()
    assert not {".eps", ".wmf", ".txt", ".pdf"} & picture_suffixes()
    assert all(Path(f"a{end}").suffix == end for end in picture_suffixes())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["pipe.png", "pipe.npy"])
def test_what_might_never_end_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    keeper = os.open(tmp_path / name, os.O_RDWR)  # so that opening it does not wait
    os.write(keeper, bytes(64))
    try:
        with pytest.raises(ValueError, match="it is no regular file"):
            read_picture(tmp_path / name)
    finally:
        os.close(keeper)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2000), (40, 30)])
@pytest.mark.parametrize("kind", ["png", "npy"])
def test_padding_never_makes_a_picture_vanish(tmp_path, shape, kind):
    path = tmp_path / f"line.{kind}"
    values = np.zeros((*shape, 3), dtype=np.uint8)
    np.save(path, values) if kind == "npy" else Image.fromarray(values).save(path)
    image = read_picture(path, (32, 32), resize="pad", background="white")
    assert image.min() == 0  # black on white


def raw_tiff(path, content, bits, zero_is_black=True):
    """A gray picture of 8 x 8 values, packed."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, int(zero_is_black)), (273, 134)]
    tags += [(277, 1), (278, 8), (279, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    path.write_bytes(head.ljust(134, b"\0") + content)
    return path


def test_a_tiff_of_twelve_bits_is_scaled_by_its_own_depth(tmp_path):
    path = raw_tiff(tmp_path / "deep.tif", b"\xff" * 96, 12)  # 8 x 8 values of 4095
    assert (read_picture(path) == 1).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_in_which_zero_is_white_is_no_negative(bits, tmp_path):
    """As scanners and radiography write them: PhotometricInterpretation 0."""
    values = np.arange(64, dtype=f"<u{bits // 8}").reshape(8, 8) * (2**bits // 64)
    black, white = (
        read_picture(raw_tiff(tmp_path / f"{of}.tif", values.tobytes(), bits, of), mode="L")
        for of in (True, False)
    )
    np.testing.assert_allclose(black, values / (2**bits - 1), atol=1e-6)
    np.testing.assert_allclose(white, 1 - black, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_gray_tiffs_are_turned_as_others_are(dtype, orientation, tmp_path):
    """Without compression, which Pillow would map from the file with its sides exchanged."""
    values = np.random.default_rng(0).integers(0, 2**15, size=(12, 20)).astype("u2")
    values = values if dtype == "u2" else (values >> 8).astype("u1")
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = []
    for name, more in (("raw.tif", {}), ("packed.tif", {"compression": "tiff_lzw"})):
        Image.fromarray(values).save(tmp_path / name, exif=exif, **more)
        found.append(read_picture(tmp_path / name, mode="L"))
    turned = ImageOps.exif_transpose(_with(Image.fromarray(values), exif))
    np.testing.assert_allclose(found[0] * (2**8 - 1 if dtype == "u1" else 2**16 - 1), turned)
    np.testing.assert_array_equal(*found)


def _with(picture, exif):
    """A picture that is to be turned."""
    picture.info["exif"] = exif.tobytes()
    return picture


@pytest.mark.parametrize("background", ["red", "gray"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_backgrounds_are_the_same_at_any_depth(mode, background, tmp_path):
    """Around what is padded, and behind what is transparent."""
    gray = np.full((4, 12), 51, dtype=np.uint8)
    color = np.full((4, 12, 3), 51, dtype=np.uint8)
    deep = gray.astype(np.uint16) * 257
    paths = [save(tmp_path, "8.png", gray), save(tmp_path, "16.png", deep)]
    for name, values in {
        "8.npy": gray, "16.npy": deep, "f.npy": gray / 255, "c8.npy": color,
        "c16.npy": color.astype(np.uint16) * 257, "cf.npy": color / 255,
    }.items():  # fmt: skip
        np.save(tmp_path / name, values)
        paths.append(tmp_path / name)
    images = [
        read_picture(path, (12, 12), mode=mode, resize="pad", background=background)
        for path in paths
    ]
    for image in images:
        np.testing.assert_allclose(image, images[0], atol=1e-2 / 2)
    wanted = np.array(ImageColor.getcolor(background, mode)) / 255
    np.testing.assert_allclose(images[0][0, 0], wanted, atol=1e-6)
    clear = [Image.fromarray(values) for values in (gray, deep)]
    for picture, name, value in zip(clear, ("t8.png", "t16.png"), (51, 51 * 257), strict=True):
        picture.save(tmp_path / name, transparency=value)
        image = read_picture(tmp_path / name, mode=mode, background=background)
        np.testing.assert_allclose(image[0, 0], wanted, atol=1e-6)


def test_arrays_of_either_byte_order_are_the_same_picture(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    for order in "<>":
        np.save(tmp_path / f"{ord(order)}.npy", values.astype(f"{order}u2"))
    few, many = (read_picture(tmp_path / f"{ord(order)}.npy") for order in "<>")
    assert np.array_equal(few, many)
