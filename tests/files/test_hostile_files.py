"""Hostile files: each is refused, with one kind of error, and nothing in it is executed."""

import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
from hostile_makers import (
    Payload,
    additive,
    array_changed,
    bayes,
    deep,
    edited,
    framed,
    joblib_file,
    manifest_text,
    members,
    name_of,
    nested,
    npz_file,
    of_other_images,
    optimizer_changed,
    other_blocks,
    repacked,
    safetensors_of,
    set_one,
    step,
    torch_file,
    twice,
    weight_less,
    whole,
    with_wrong_sums,
    zipped,
)
from safetensors.numpy import save as safetensors

from sklearn_patchcert import CertifiedPatchClassifier, ModelFileError, load

EXECUTES = {"exec", "compile", "import", "marshal.loads", "pickle.find_class", "ctypes.dlopen"}
EXECUTES |= {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"}
seen: list = []
listening = False


def listen(event, arguments):
    if listening and event in EXECUTES:
        seen.append((event, arguments))


sys.addaudithook(listen)


HOSTILE = {  # what it is: (the bytes, what the error says)
    # Foreign files, with and without code in them.
    "nothing": (lambda: b"", "no model file"),
    "text": (lambda: b"hello\n" * 100, "no model file"),
    "pickle": (lambda: pickle.dumps(Payload()), "Files of joblib or pickle"),
    "joblib, compressed": (joblib_file, "no model file"),
    "torch.save": (torch_file, "where 'manifest.json' must be"),
    "npz of objects": (npz_file, "where 'manifest.json' must be"),
    "pickle as the manifest": (lambda: framed(manifest=pickle.dumps(Payload())), "no JSON"),
    "pickle as the arrays": (lambda: framed(arrays=pickle.dumps(Payload())), "no safetensors"),
    # Truncated, extended, damaged.
    "half": (lambda: whole()[: len(whole()) // 2], "truncated"),
    "without its end": (lambda: whole()[:-1], "damaged or was packed"),
    "one byte more": (lambda: whole() + b"\0", "damaged or was packed"),
    "something before": (lambda: b"#!/bin/sh\n" + whole(), "no model file"),
    "twice": (lambda: whole() + whole(), "damaged or was packed"),
    "checksum of another": (
        lambda: zipped([*members()[:2], ("SHA256SUMS", b"0" * 64 + members()[2][1][64:])]),
        "damaged or was packed",
    ),
    "arrays of another": (
        lambda: b"".join(with_wrong_sums()), "do not have the checksums",
    ),
    # Archives of others, and tricks with archives.
    "zip comment": (lambda: zipped(members(), comment=b"hi"), "damaged or was packed"),
    "compressed": (lambda: zipped(members(), zipfile.ZIP_DEFLATED), "manifest.json|damaged"),
    "bomb": (
        lambda: zipped([("manifest.json", bytes(2**26))], zipfile.ZIP_DEFLATED),
        "inside manifest.json, which has 67108864 bytes",
    ),
    "repacked": (lambda: zipped(members()), "damaged or was packed"),
    "member twice": (lambda: twice(), "damaged|must be"),
    "member more": (lambda: zipped([*members(), ("../../evil.py", b"1")]), "damaged or was packed"),
    "path up": (lambda: zipped([("../manifest.json", b"{}")]), "'../manifest.json' where"),
    "path from the root": (lambda: zipped([("/etc/passwd", b"root")]), "'/etc/passwd' where"),
    "other order": (lambda: zipped(members()[::-1]), "'SHA256SUMS' where"),
    "no arrays": (lambda: zipped(members()[:1]), "where 'arrays.safetensors' must be"),
    "encrypted": (
        lambda: whole()[:6] + b"\1" + whole()[7:], "damaged or was packed",
    ),
    "size that lies": (
        lambda: whole()[:22] + b"\xff\xff\xff\xff" + whole()[26:], "4294967295 bytes",
    ),
    # Manifests that are none.
    "no object": (lambda: framed(b"[1, 2]"), "no JSON object"),
    "not UTF-8": (lambda: framed(b'{"a": "\xff"}'), "no JSON"),
    "too deep": (lambda: framed(b"[" * 10**5), "no JSON"),
    "NaN": (lambda: manifest_text(lambda s: s.replace("0.002", "NaN", 1)), "no JSON.*NaN"),
    "infinity": (lambda: manifest_text(lambda s: s.replace("0.002", "1e999", 1)), "no finite"),
    "huge number": (lambda: manifest_text(lambda s: s.replace("0.002", "9" * 5000, 1)), "no JSON"),
    "name twice": (
        lambda: manifest_text(lambda s: s.replace('"lr":', '"lr": 1.0, "lr":', 1)), "stands twice",
    ),
    "format of the future": (
        lambda: repacked(lambda c, a: c.update(format_version=2)),
        "format version 2, and this library reads 1: update sklearn_patchcert",
    ),
    "format as text": (lambda: repacked(lambda c, a: c.update(format_version="1")), "version '1'"),
    "format as a flag": (lambda: repacked(lambda c, a: c.update(format_version=True)), "True"),
    "another format": (lambda: repacked(lambda c, a: c.update(format="skops")), "it is 'skops'"),
    "more entries": (lambda: repacked(lambda c, a: c.update(run="rm")), "unknown entries"),
    "no version": (lambda: repacked(lambda c, a: c.update(versions={})), "sklearn_patchcert"),
    # Arrays that are none.
    "header beyond the end": (
        lambda: framed(arrays=struct.pack("<Q", 2**62) + b"{}"), "no safetensors",
    ),
    "offsets beyond the end": (
        lambda: safetensors_of({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}),
        "no safetensors",
    ),
    "shape that overflows": (
        lambda: safetensors_of(
            {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}
        ),
        "no safetensors",
    ),
    "a type that NumPy lacks": (
        lambda: safetensors_of(
            {"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"\0\0"
        ),
        "no safetensors",
    ),
    "complex tokens": (
        lambda: array_changed("vocabulary_", lambda a: a.astype(np.complex64)), "complex64",
    ),
    "arrays left out": (lambda: framed(arrays=safetensors({})), "KeyError"),
    "arrays that nothing uses": (
        lambda: repacked(lambda c, a: a.update(more=np.zeros(3))), r"nothing uses .*'more'",
    ),
    # Names of code.
    "os.system": (lambda: repacked(lambda c, a: name_of(c, "os.system")), "KeyError: 'os.system'"),
    "class of another library": (
        lambda: repacked(lambda c, a: name_of(c, "GridSearchCV")), "GridSearchCV",
    ),
    "own module": (
        lambda: edited(2, "params", "module", {"name": ["antigravity.Net", None]}), "antigravity",
    ),
    "module with options": (
        lambda: edited(2, "params", "module", {"name": ["PatchResNet", {"dict": [["depth", 9]]}]}),
        "module has options",
    ),
    "module by text": (lambda: edited(2, "params", "module", "PatchConvNet"), "PatchNetClassifier"),
    "eval as an activation": (
        lambda: edited(2, "params", "predict_nonlinearity", "eval"), "nonlinearity .* is unknown",
    ),
    "criterion": (
        lambda: edited(2, "params", "criterion", {"name": ["Module", None]}), "KeyError: 'Module'",
    ),
    "loss": (lambda: edited(1, "params", "loss", {"name": ["eval", None]}), "'loss' is no param"),
    "augment": (
        lambda: edited(2, "params", "augment", {"name": ["system", None]}), "KeyError: 'system'",
    ),
    "callbacks": (lambda: edited(2, "params", "callbacks", ["x"]), "'callbacks' is no parameter"),
    "compile": (lambda: edited(2, "params", "compile", True), "'compile' is no parameter"),
    "backend of a compiler": (
        lambda: edited(2, "params", "compile__backend", "x"), "'compile__backend' is no parameter",
    ),
    "memory": (
        lambda: repacked(lambda c, a: c["model"]["params"].update(memory="/tmp")),
        "'memory' is no parameter",
    ),
    "method as an attribute": (lambda: edited(1, "fitted", "certify", 1), "other attributes"),
    "class as an attribute": (lambda: edited(1, "fitted", "__class__", 1), "other attributes"),
    "unknown parameter": (lambda: edited(1, "params", "shell", "sh"), "'shell' is no parameter"),
    "unknown kind of value": (
        lambda: edited(1, "params", "n_tokens", {"pickle": "gASV"}), "unknown kind",
    ),
    "estimator as a number": (
        lambda: edited(1, "params", "n_tokens", {"estimator": {"class": "PatchVocabulary",
                                                               "params": {}, "fitted": None}}),
        "n_tokens holds an estimator",
    ),
    # Parameters out of range, and demands on the machine.
    "no tokens": (lambda: edited(1, "params", "n_tokens", 0), "n_tokens.*must be an int"),
    "batches of text": (lambda: edited(2, "params", "batch_size", "1"), "batch_size must be"),
    "rate of text": (lambda: edited(2, "params", "lr", "fast"), "lr must be"),
    "a billion threads": (lambda: edited(1, "params", "n_jobs", 10**9), "n_jobs is 1000000000"),
    "device": (lambda: edited(1, "params", "device", "evil:0"), "device is 'evil:0'"),
    "wide network": (
        lambda: edited(2, "params", "module__width", 10**7), "do not have the shapes",
    ),
    "wider than numbers": (lambda: edited(2, "params", "module__width", 10**30), "PatchNetClass"),
    "deep network": (
        lambda: repacked(deep), "deeper than its weights",
    ),
    "estimator in an estimator in ...": (lambda: repacked(nested), "more than 8 levels"),
    "text that grows": (
        lambda: edited(2, "fitted", "classes_inferred_",
                       {"texts": [2**24, [str(i) for i in range(10)]]}),
        "array of text is too large",
    ),
    "step names twice": (
        lambda: repacked(
            lambda c, a: c["model"]["params"]["steps"][0]["tuple"].__setitem__(0, "clf")
        ),
        "names of their own",
    ),
    "step that is no estimator": (
        lambda: repacked(
            lambda c, a: c["model"]["params"]["steps"][1]["tuple"].__setitem__(1, "rm -rf")
        ),
        "step 'vocab' has no transform",
    ),
    "frozen number": (
        lambda: repacked(
            lambda c, a: c.update(model={"class": "FrozenEstimator", "params": {"estimator": 5},
                                         "fitted": {}})
        ),
        "what is frozen is no estimator",
    ),
    # Tokens, weights and scales that cannot be.
    "token is NaN": (lambda: array_changed("vocabulary_", set_one(0, 0, np.nan)), "vocabulary_ is"),
    "token is inf": (lambda: array_changed("vocabulary_", set_one(0, 0, np.inf)), "vocabulary_ is"),
    "token is huge": (lambda: array_changed("vocabulary_", set_one(0, 0, 1e200)), "at most 1e"),
    "tokens are integers": (
        lambda: array_changed("vocabulary_", lambda a: a.astype(np.int64)), "vocabulary_ is",
    ),
    "tokens are coarse": (
        lambda: array_changed("vocabulary_", lambda a: a.astype(np.float16)), "vocabulary_ is",
    ),
    "token twice": (
        lambda: array_changed("vocabulary_", lambda a: a[[0, 0, 2, 3, 4, 5]]), "not distinct",
    ),
    "no token left": (lambda: array_changed("vocabulary_", lambda a: a[:0]), "not empty"),
    "tokens of another patch": (
        lambda: array_changed("vocabulary_", lambda a: a[:, :15]), "do not fit patch_size",
    ),
    "one token fewer": (lambda: array_changed("vocabulary_", lambda a: a[:-1]), "token_counts_"),
    "tokens as text": (lambda: edited(1, "fitted", "vocabulary_", "0 0 0"), "vocabulary_ is"),
    "negative counts": (lambda: array_changed("token_counts_", lambda a: -a), "token_counts_"),
    "another patch": (
        lambda: edited(1, "fitted", "patch_size_", {"tuple": [2, 2]}), "PatchVocabulary can be",
    ),
    "another image": (
        lambda: edited(1, "fitted", "image_shape_", {"tuple": [8, 9, 1]}), "n_features_in_",
    ),
    "image without end": (
        lambda: edited(2, "fitted", "image_shape_", {"tuple": [10**9, 10**9, 1]}), "n_features_in_",
    ),
    "half an image's shape": (
        lambda: repacked(lambda c, a: step(c, 1)["fitted"].pop("sample_shape_")), "half an image",
    ),
    "an attribute less": (
        lambda: repacked(lambda c, a: step(c, 1)["fitted"].pop("per_channel_")), "other attributes",
    ),
    "steps that do not fit": (
        lambda: repacked(lambda c, a: of_other_images(c)), "takes other features|do not fit",
    ),
    "weights of another shape": (
        lambda: array_changed("features.0.weight", lambda a: a[:1]), "shapes and dtypes",
    ),
    "weights in double precision": (
        lambda: array_changed("features.0.weight", lambda a: a.astype(float)), "shapes and dtypes",
    ),
    "weight is NaN": (
        lambda: array_changed("head.2.weight", set_one(0, 0, np.nan)), "not finite",
    ),
    "a weight less": (lambda: repacked(weight_less), "shapes and dtypes"),
    "no state": (lambda: repacked(lambda c, a: step(c, 2).pop("state")), "state is missing"),
    "a state too much": (
        lambda: repacked(lambda c, a: step(c, 1).update(state=1)), "there should be none",
    ),
    "moments of another shape": (lambda: repacked(optimizer_changed), "optimizer's state"),
    "classes twice": (lambda: array_changed("classes_inferred_", lambda a: a * 0), "classes_infer"),
    "a class less": (lambda: array_changed("classes_inferred_", lambda a: a[1:]), "n_outputs_"),
    "channels without spread": (lambda: array_changed("channel_std_", lambda a: a * 0), "positive"),
    "scale of nothing": (lambda: array_changed("[0][1].scale_", lambda a: a * 0), "must not be 0"),
    "scale of other features": (
        lambda: array_changed("[0][1].scale_", lambda a: a[:7]), "not of 64 features",
    ),
    "scale missing": (lambda: edited(0, "fitted", "scale_", None), "scale_ is missing"),
    "blocks of other patches": (
        lambda: repacked(other_blocks, additive), "blocks of the network",
    ),
    "probabilities of another shape": (
        lambda: array_changed("feature_log_prob_[0]", lambda a: a[:, :1], bayes), "does not fit",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Function of bytes: what load makes of them, listening to what the interpreter does."""
    path = tmp_path_factory.mktemp("files") / "model.patchcert"
    for make in (whole, additive, bayes):  # so that all that load imports is there
        path.write_bytes(make())
        repr(load(path))

    def open_(data):
        global listening
        path.write_bytes(data)
        seen.clear()
        listening = True
        try:
            return load(path)
        finally:
            listening = False

    return open_


def test_the_files_are_right_before_they_are_changed(opened):
    for make in (whole, additive, bayes):
        assert isinstance(opened(make()), CertifiedPatchClassifier)
        assert repacked(lambda content, arrays: None, make) == make()
        assert seen == []
    assert opened(framed()) is not None


def test_there_are_enough_of_them():
    assert len(HOSTILE) > 30


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, opened):
    make, says = HOSTILE[name]
    data = make()
    with pytest.raises(ModelFileError, match=says) as caught:
        opened(data)
    assert seen == []
    assert "payload" not in sys.modules
    assert len(str(caught.value)) < 600


def test_the_payload_would_have_been_noticed(opened):
    global listening
    seen.clear()
    listening = True
    try:
        pickle.loads(pickle.dumps(Payload()))
    finally:
        listening = False
        sys.modules.pop("payload")
    assert {event for event, _ in seen} >= {"pickle.find_class", "exec"}
