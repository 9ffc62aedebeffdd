"""Every command and snippet of the README and docs runs."""

import dataclasses
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from vgrpo.commands.main import COMMANDS, main
from vgrpo.commands.options import take_option
from vgrpo.models.supported import model_folder
from vgrpo.objectives import OBJECTIVES
from vgrpo.recipes import RECIPES

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs/changelog.md"  # by docs/build.py
DOCS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page != GENERATED]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
QUICK = (
    "--num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.num-steps 2 --eval.num-prompts 0 "
    "--eval.num-sample-prompts 1 --eval.num-steps 2"
).split()


def blocks(language):
    return [
        pytest.param(text, id=f"{page.stem}-{index}")
        for page in PAGES
        for index, text in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the pages speak of: prompts, a model, and the files whose snippets begin with their name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for page in PAGES:
        for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(), re.DOTALL):
            with (tmp_path / name).open("a") as file:
                file.write(code)
    (tmp_path / "prompts.txt").write_text("a heart\ntwo stars\n")
    shutil.copytree(model_folder("sprites"), tmp_path / "path/to/stable-diffusion-3.5-medium")
    return tmp_path


def quick(words):
    """A training command with QUICK's numbers in place of its own."""
    own, rest = [], iter(words)
    for word in rest:
        if word in QUICK[::2]:
            next(rest)  # its value
        else:
            own.append(word)
    return [*own, *QUICK]


@pytest.mark.parametrize("code", blocks("python"))
def test_snippets(workplace, code):
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands(workplace, block):
    for line in block.strip().splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        assert words[0] == "vgrpo"
        if words[1] == "sample" and not Path("runs/warm/lora").exists():
            main(["train", "sprites", "--output-dir", "runs/warm", *QUICK])
        if words[1] == "train":
            words = ["vgrpo", *quick(words[1:])]
        if words[1] == "diagnose":
            words += ["--num-prompts", "4", "--group-size", "2"]
        assert main(words[1:]) == 0


ENDS = {"train": "parse_job", "plan": "parse_job", "ctl": "at_work", "report": "write_report", "doctor": "Screen"}
"""The first call of a command after its words are read; of the others it is `parse` that reads them."""


class Understood(Exception):
    """A command line was read without an error, and nothing of what it asks for was done."""


def shown_commands():
    """Every `vgrpo ...` of the blocks that cannot run, after what starts it there; lines that go on are joined. Not those of
    docs/benchmark-earlier.md, which says that they are of an earlier tool."""
    for block in blocks("text"):
        if block.id.startswith("benchmark-earlier"):
            continue
        lines = re.sub(r"\\\n\s*", "", block.values[0]).splitlines()
        found = [re.search(r"(?:^|(?:exec|-m|taskset -c \d) )(vgrpo [a-z].*)", line) for line in lines]
        for index, match in enumerate(filter(None, found)):
            if match[1].split()[1] in COMMANDS:
                yield pytest.param(match[1].rstrip("'"), id=f"{block.id}-{index}")


@pytest.mark.parametrize("line", shown_commands())
def test_commands_that_cannot_run_are_understood(workplace, monkeypatch, line):
    from vgrpo.training.settings.config_files import save_yaml

    name, *words = shlex.split(line, comments=True)[1:]
    module = importlib.import_module(f"vgrpo.commands.{name.replace('-', '_')}")
    reader = getattr(module, ENDS.get(name, "parse"))

    def read(*args, **settings):
        if name in ENDS and reader.__name__ != "parse_job":
            raise Understood
        reader(*args, **settings)
        raise Understood

    for word in words:
        if word.endswith("config.yaml"):
            (workplace / word).parent.mkdir(parents=True)
            save_yaml(RECIPES["sprites"], workplace / word)
    words, _ = take_option(words, "--gpus")
    monkeypatch.setattr(module, reader.__name__, read)
    with pytest.raises(Understood):
        module.run(words)


def test_named_commands_and_options_exist():
    from vgrpo.training.settings.config import Config
    from vgrpo.training.settings.config_files import config_from, to_dict

    for page in PAGES:
        for command in re.findall(r"`vgrpo ([\w-]+)", page.read_text()):
            assert command in COMMANDS
        for recipe in re.findall(r"vgrpo (?:train|plan) ([a-z][\w-]*)(?![\w./-])", page.read_text()):
            assert recipe in RECIPES, page.name
        for option in re.findall(r"--((?:objective|rollout|update|advantage|eval|lora|memory)\.[a-z-]+)", page.read_text()):
            section, name = option.replace("-", "_").split(".")
            kinds = OBJECTIVES.values() if section == "objective" else (type(getattr(Config(), section)),)
            assert any(name.removeprefix("no_") in {field.name for field in dataclasses.fields(kind)} for kind in kinds), option
    assert config_from(to_dict(Config())) == Config()


def test_linked_files_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
