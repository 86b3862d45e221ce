"""patchcert export: a program that answers as the model does."""

import json

import numpy as np
import torch
from pictures_for_cli import run

from sklearn_patchcert import PatchVocabulary, load, save


def test_the_program_answers_as_the_model_does(model_file, tmp_path, capsys):
    path = tmp_path / "network.pt2"
    assert run("export", "--model", model_file, "--out", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == path.stat().st_size
    model = load(model_file)
    X = np.random.default_rng(0).random((20, 16, 16, 3), dtype=np.float32)
    made = torch.as_tensor(model["vocab"].transform(X)).permute(0, 3, 1, 2)
    best = torch.export.load(path).module()(made).argmax(1)
    np.testing.assert_array_equal(model.classes_[best], model.predict(X))


def test_models_without_a_network_are_refused(tmp_path, capsys):
    save(PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1), tmp_path / "model")
    assert run("export", "--model", tmp_path / "model", "--out", tmp_path / "network.pt2") == 2
    assert "PatchVocabulary" in capsys.readouterr().err
    assert run("export", "--model", tmp_path / "model", "--out", tmp_path / "model") == 2
    assert load(tmp_path / "model").vocabulary_.shape == (2, 1)
