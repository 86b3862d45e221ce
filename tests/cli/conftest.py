import functools

import pytest
from pictures_for_cli import make_odd, make_photos, run

from sklearn_patchcert.scorers import reports


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three classes of eight pictures each."""
    return make_photos(tmp_path_factory.mktemp("cli") / "photos")


@pytest.fixture(scope="session")
def model_file(photos):
    """What `patchcert fit` makes of them."""
    path = photos.parent / "model.patchcert"
    options = ("--image-size", 16, "--tokens", 8, "--epochs", 8, "--quiet")
    assert run("fit", photos, "--out", path, *options) == 0
    return path


@pytest.fixture
def odd(tmp_path):
    """A folder with oddities, and why some of its files cannot be read."""
    folder = make_photos(tmp_path / "odd", 3)
    return folder, make_odd(folder)


@pytest.fixture
def quick_attacks(monkeypatch):
    """Attacks of one step, which are no good attacks."""
    quick = functools.partial(reports.robustness_report, steps=1)
    monkeypatch.setattr(reports, "robustness_report", quick)
