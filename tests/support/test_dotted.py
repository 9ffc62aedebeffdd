"""A user's own object by name, from the current folder or from what is installed."""

import sys

import pytest

from vgrpo.support.dotted import load_dotted


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder that is not on the path, as for an installed command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_here_is_found_with_one_beside_it_and_the_path_is_as_it_was(here):
    (here / "mine_a.py").write_text("import mine_b\nimport torch\n\ndef f():\n    return mine_b.VALUE\n")
    (here / "mine_b.py").write_text("VALUE = 3\n")
    (here / "mine_c").mkdir()
    (here / "mine_c/inner.py").write_text("from mine_b import VALUE\n")
    before = list(sys.path)
    assert load_dotted("mine_a:f", "reward")() == 3
    assert load_dotted("mine_c.inner:VALUE", "reward") == 3
    assert sys.path == before


def test_the_path_is_as_it_was_after_an_error(here):
    (here / "mine_d.py").write_text("raise RuntimeError('no')\n")
    before = list(sys.path)
    with pytest.raises(RuntimeError, match="no"):
        load_dotted("mine_d:f", "reward")
    assert sys.path == before


@pytest.mark.parametrize("module", ["torch", "vgrpo", "xml", "tabnanny"])  # the last is in the library and not yet imported
def test_what_is_installed_is_not_taken_from_here(here, module):
    (here / f"{module}.py").write_text("raise RuntimeError('the wrong one')\n")
    (here / "mine_e.py").write_text(f"import {module}\n\nNAME = {module}.__file__\n")
    assert not load_dotted("mine_e:NAME", "reward").startswith(str(here))
    assert load_dotted("vgrpo.support.dotted:load_dotted", "reward") is load_dotted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine_f", "give it as my_file:my_reward"),
        ("mine_f.py:f", "give it as my_file:my_reward"),
        ("folder/mine_f:f", "give it as my_file:my_reward"),
        (":f", "give it as my_file:my_reward"),
        ("mine_f:", "give it as my_file:my_reward"),
        ("..mine_f:f", "give it as my_file:my_reward"),
        ("mine_nowhere:f", r"No module named 'mine_nowhere'; is mine_nowhere\.py in this folder or installed"),
        ("mine_f:g", r"mine_f\.py has no g"),
        ("mine_g:f", "No module named 'mine_missing', which mine_g imports; install it"),
    ],
)
def test_what_is_missing_is_named(here, name, message):
    (here / "mine_f.py").write_text("def f(): ...\n")
    (here / "mine_g.py").write_text("import mine_missing\n")
    with pytest.raises(ValueError, match=message):
        load_dotted(name, "reward")
