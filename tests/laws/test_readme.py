"""The README is short, its code runs from top to bottom, and its links and those of docs/ exist."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_patchcert import cli

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [README, *(p for p in sorted((ROOT / "docs").rglob("*.rst"))
                   if not {"_build", "auto_examples", "generated"} & set(p.parts))]  # fmt: skip


def run(text):
    """Run the blocks of a page in the current folder: Python in one namespace, and `patchcert`."""
    names: dict = {}
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, "README.md", "exec"), names)
        elif code.startswith("patchcert "):
            for command in code.splitlines():
                assert cli.main(shlex.split(command)[1:]) == 0, command
    return names


def make_photos(folder, count):
    """A folder of photos of two classes."""
    for name, picture in zip(("flower", "temple"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for at in range(count):
            Image.fromarray(picture[40 * at :][:90, 300:400]).save(folder / name / f"{at}.jpg")


def links(text):
    """Relative targets of links and pictures in Markdown and reStructuredText."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    found += re.findall(
        r"^\.\. (?:image|figure|include|literalinclude):: (\S+)", text, re.MULTILINE
    )
    found += [f"{page}.rst" for page in re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text)]
    return [link for link in found if not re.match(r"[a-z]+:|#", link)]


def missing(page, text):
    """Relative links of a page that lead nowhere."""

    def target(link):
        path = link.partition("#")[0]
        place = ROOT / "docs" / path[1:] if path.startswith("/") else page.parent / path
        if place.parent.name != "auto_examples":
            return place
        name = "GALLERY_HEADER.rst" if place.stem == "index" else f"{place.stem}.py"
        return ROOT / "examples" / name  # the gallery is made of these when the pages are built

    made = [link for link in links(text) if not link.startswith("generated/")]  # by the build
    return [link for link in made if not target(link).exists()]


@pytest.mark.slow
def test_the_code_of_the_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", 5)
    make_photos(tmp_path / "test_photos", 2)
    names = run(README.read_text())
    assert names["radii"].shape == (450, 4, 4)
    assert (names["found"].radius > 0).any()
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_block_of_the_readme_is_run_or_is_a_command_that_ci_runs():
    text = README.read_text()
    marked = re.findall(
        r"<!-- (?:quickstart|tests|docs) -->\n```bash\n(.*?)^```$", text, re.DOTALL | re.M
    )
    assert len(marked) == 3
    for language, code in BLOCK.findall(text):
        assert language == "python" or code in marked or code.startswith("patchcert ")


def test_the_run_fails_where_a_block_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, bad = "```python\nmodel = 1\n```\n", "```python\nassert model == 2\n```\n"
    assert run(good)["model"] == 1
    with pytest.raises(AssertionError):
        run(good + bad)
    with pytest.raises(NameError):
        run(bad)


def test_the_readme_has_two_screens():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    assert missing(page, page.read_text()) == []


def test_a_broken_link_is_found():
    text = "[a](no.rst) [b](https://x.org) ![c](README.md)\n.. image:: no.png\n:doc:`there <no>`\n"
    assert missing(README, text) == ["no.rst", "no.png", "no.rst"]
