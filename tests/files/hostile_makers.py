"""Files of models, and ways to change them that nobody should get away with."""

import copy
import functools
import io
import json
import struct
import zipfile

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary, save
from sklearn_patchcert.files import archive, model_files
from sklearn_patchcert.networks.modules import AdditivePatchNet


class Payload:
    def __reduce__(self):
        return exec, ("import sys; sys.modules['payload'] = sys",)


@functools.cache
def whole():
    """A scaler, a vocabulary and a network, with the state of its optimizer, as a file."""
    X, y = load_digits(return_X_y=True)
    model = CertifiedPatchClassifier(
        [
            ("scale", StandardScaler()),
            ("vocab", PatchVocabulary(6, strategy="kmeans", random_state=0)),
            ("clf", PatchNetClassifier(max_epochs=1, random_state=0, module__width=2,
                                       module__hidden=3)),
        ]
    )  # fmt: skip
    return packed(model.fit(X[:60], y[:60]), trim=False)


@functools.cache
def additive():
    X, y = load_digits(return_X_y=True)
    net = PatchNetClassifier(AdditivePatchNet, max_epochs=1, random_state=0, module__width=2)
    vocabulary = PatchVocabulary(4, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", net)]
    return packed(CertifiedPatchClassifier(steps).fit(X[:60], y[:60]))


@functools.cache
def bayes():
    X, y = load_digits(return_X_y=True)
    vocabulary = PatchVocabulary(4, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=4))]
    return packed(CertifiedPatchClassifier(steps).fit(X[:60], y[:60]))


def packed(model, **options):
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_files, "replacing", lambda path: Catch(written))
        save(model, "nowhere", **options)
    return written[0]


class Catch:
    def __init__(self, written):
        self.write_bytes = written.append

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def repacked(change, make=whole):
    """The file with its manifest and arrays changed, and the checksums right again."""
    content, arrays = archive.unpack(make())
    content = copy.deepcopy(content)
    change(content, arrays)
    return archive.pack(content, arrays)


def step(content, index):
    return content["model"]["params"]["steps"][index]["tuple"][1]["estimator"]


def edited(index, part, name, value, make=whole):
    """The file with one parameter or attribute of a step changed."""

    def change(content, arrays):
        step(content, index)[part][name] = value

    return repacked(change, make)


def array_changed(ending, change, make=whole):
    """The file with one array changed, the one whose name ends so."""

    def change_it(content, arrays):
        (name,) = (name for name in arrays if name.endswith(ending))
        arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))

    return repacked(change_it, make)


def zipped(members, compression=zipfile.ZIP_STORED, comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
        file.comment = comment
    return stream.getvalue()


def members(data=None):
    with zipfile.ZipFile(io.BytesIO(data or whole())) as file:
        return [(name, file.read(name)) for name in file.namelist()]


def framed(manifest=None, arrays=None):
    """A file of raw members, right but for what they hold."""
    parts = dict(members())
    if manifest is not None:
        parts["manifest.json"] = manifest
    if arrays is not None:
        parts["arrays.safetensors"] = arrays
    parts["SHA256SUMS"] = archive._sums(parts)
    heads, tail = archive._frame(parts)
    return b"".join(a + b for a, b in zip(heads, parts.values(), strict=True)) + tail


def joblib_file():
    stream = io.BytesIO()
    joblib.dump(Payload(), stream, compress=3)
    return stream.getvalue()


def torch_file():
    stream = io.BytesIO()
    torch.save(Payload(), stream)
    return stream.getvalue()


def npz_file():
    stream = io.BytesIO()
    np.savez(stream, a=np.array([Payload()], dtype=object))
    return stream.getvalue()


def swapped(data, before, after):
    assert data.count(before) >= 1
    return data.replace(before, after)


def name_of(content, value):
    content["model"]["class"] = value


def set_one(row, column, value):
    def change(array):
        array[row, column] = value
        return array

    return change


def nested(content, arrays):
    inner = content["model"]
    for _ in range(250):
        inner = {"class": "FrozenEstimator", "params": {"estimator": {"estimator": inner}},
                 "fitted": {}}  # fmt: skip
    content["model"] = inner


def manifest_text(change):
    return framed(change(dict(members())["manifest.json"].decode()).encode())


def safetensors_of(header, data=b""):
    text = json.dumps(header).encode()
    return framed(arrays=struct.pack("<Q", len(text)) + text + data)


def optimizer_changed(content, arrays):
    (name,) = (n for n in arrays if n.endswith("[2][1].optimizer.state.0.exp_avg"))
    arrays[name] = arrays[name][:1]


def with_wrong_sums():
    parts = dict(members())
    parts["arrays.safetensors"] = parts["arrays.safetensors"][:-1] + b"\x7f"
    heads, tail = archive._frame(parts)
    return [*(a + b for a, b in zip(heads, parts.values(), strict=True)), tail]


def twice():
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped([members()[0], *members()])


def deep(content, arrays):
    step(content, 2)["params"]["module"] = {"name": ["PatchResNet", None]}
    step(content, 2)["params"]["module__depth"] = 10**12


def of_other_images(content):
    fitted = step(content, 1)["fitted"]
    fitted["image_shape_"] = {"tuple": [8, 4, 1]}
    fitted["sample_shape_"] = {"tuple": [32]}
    fitted["n_features_in_"] = 32


def weight_less(content, arrays):
    weights = step(content, 2)["state"]["dict"][0][1]["dict"]
    arrays.pop(weights.pop()[1]["tensor"])


def other_blocks(content, arrays):
    """As many blocks of other sides: their certificate would be of other images."""
    step(content, 1)["params"]["module__patch_size"] = {"tuple": [3, 3]}
    (name,) = (name for name in arrays if name.endswith("stem.weight"))
    arrays[name] = np.ascontiguousarray(arrays[name][..., :6, :6])
    for ending in ("place", "weights.out"):
        (name,) = (name for name in arrays if name.endswith(ending))
        array = arrays[name]
        if ending == "place":
            arrays[name] = np.ascontiguousarray(np.tile(array, (1, 2, 2)))
        else:
            arrays[name] = np.ascontiguousarray(np.tile(array, (4, 1, 1)))


def chain(levels, inner=None):
    """Frozen estimators in frozen estimators, as the JSON of the outermost."""
    inner = inner or {"class": "PatchVocabulary", "params": {}, "fitted": None}
    for _ in range(levels):
        inner = {"class": "FrozenEstimator", "params": {"estimator": {"estimator": inner}},
                 "fitted": {}}  # fmt: skip
    return inner


def model_is(description):
    def change(content, arrays):
        content["model"] = description
        arrays.clear()

    return repacked(change)


def committee_of(levels, width):
    """Committees in committees, as JSON."""
    inner = {"class": "PatchVocabulary", "params": {}, "fitted": None}
    for _ in range(levels):
        members = [{"tuple": [f"m{i}", {"estimator": inner}]} for i in range(width)]
        inner = {"class": "CertifiedCommittee", "params": {"estimators": members}, "fitted": None}
    return inner


def deep_list(levels):
    inner = 1
    for _ in range(levels):
        inner = [inner]
    return inner


def deep_dict(levels):
    inner = 1
    for _ in range(levels):
        inner = {"dict": [["a", inner]]}
    return inner


CHAIN = {"estimator": chain(14)}
