"""The documentation site builds, its pages are in the navigation, and its links lead somewhere."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
import yaml

from vgrpo.models.bundled import bundled_models
from vgrpo.recipes import RECIPES
from vgrpo.training.settings.stages import Curriculum

ROOT = Path(__file__).parents[2]
GENERATED = "changelog.md"  # by docs/build.py


@pytest.fixture(scope="module")
def builder():
    return runpy.run_path(str(ROOT / "docs/build.py"))


def files_of(nav):
    """The pages that a navigation names, however deep."""
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else files_of(value)


def test_every_page_is_in_the_navigation():
    named = list(files_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} | {GENERATED}
    assert not pages - set(named), f"give {sorted(pages - set(named))} a line in the nav of mkdocs.yml"
    assert not set(named) - pages, f"the nav of mkdocs.yml names {sorted(set(named) - pages)}, which docs/ does not hold"
    assert len(named) == len(set(named))


def test_the_site_builds_without_warnings_and_broken_links(tmp_path, builder):
    pytest.importorskip("zensical")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("vgrpo", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert builder["build"](tmp_path) == []
    text = (tmp_path / "site/reference/settings/index.html").read_text()
    assert "Divide the squared error by its own mean absolute error" in text  # a docstring of VGRPO
    assert "warmth" in (tmp_path / "site/examples/index.html").read_text()  # of examples/own_reward.py
    assert "Unreleased" in (tmp_path / "site/changelog/index.html").read_text()
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=[\"']?(https?:[^\"' >]*)", page.read_text())
        assert not fetched, f"{page} fetches {fetched}"


def test_broken_links_are_found(tmp_path, builder):
    (tmp_path / "there.html").write_text("<h1 id=top>There</h1>")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/index.html").write_text("<p>")
    links = ["there.html", "there.html#top", "there.html#bottom", "folder/", "gone.html", "https://example.org/x", "#nowhere"]
    (tmp_path / "page.html").write_text("".join(f"<a href='{link}'>x</a>" for link in links) + "<img src='gone.png'>")
    found = list(builder["broken_links"](tmp_path))
    assert found == [f"page.html: {target}" for target in ("there.html#bottom", "gone.html", "#nowhere", "gone.png")]


def test_the_changelog_loses_its_folder(builder):
    assert builder["changelog"]("[x](docs/prompts.md#a) docs/y") == "[x](prompts.md#a) docs/y"


def test_every_large_recipe_has_its_costs():
    text = (ROOT / "docs/recipe-costs.md").read_text()
    listed = re.findall(r"^\| `([\w.-]+)` \|", text, re.MULTILINE)
    firsts = {name: job.stages[0].config if isinstance(job, Curriculum) else job for name, job in RECIPES.items()}
    assert listed == [name for name, config in firsts.items() if config.model not in bundled_models()], (
        "run python docs/recipe_costs.py"
    )
