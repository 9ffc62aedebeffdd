"""The examples run as they stand, in their quick form."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    return tmp_path


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_scripts(workplace, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--output-dir", "runs/example"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert "before" in last
    assert "after" in last
    assert list(workplace.glob("runs/example/**/report.html"))


def test_the_two_tasks_judge_what_they_say():
    module = runpy.run_path(str(EXAMPLES / "two_tasks.py"))
    from vgrpo import Prompt

    red = torch.zeros(2, 3, 4, 4)
    red[:, 0] = 1
    assert module["colour"](red, [Prompt(text="a red key"), Prompt(text="a blue key")]).tolist() == [1, -0.5]
    tones = [Prompt(text="x", metadata={"tone": tone}) for tone in ("light", "dark")]
    assert module["tone"](torch.ones(2, 3, 4, 4), tones).tolist() == [1, -1]


def test_the_notebook(workplace, monkeypatch):
    monkeypatch.setenv("NUM_STEPS", "1")
    notebook = json.loads((EXAMPLES / "one_iteration.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    names = {"__name__": "notebook"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert names["ratio"].shape == names["reward"].shape
    assert not torch.equal(names["ratio"], torch.ones_like(names["ratio"]))  # the step moved the model
