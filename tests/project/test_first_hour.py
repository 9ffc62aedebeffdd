"""Every line of docs/first-hour.md, with tiny random models in place of the published weights."""

import re
import shlex
from pathlib import Path

import pytest
from helpers import figures
from helpers.pipelines import autoencoder
from helpers.reward_models import save_clip
from helpers.tiny import tiny_pipeline

from vgrpo.analysis.plan import job as plan_job
from vgrpo.commands import fit
from vgrpo.commands.main import main

PAGE = Path(__file__).parents[2] / "docs/first-hour.md"
INSTALLS = ("python -m venv .venv && . .venv/bin/activate", 'pip install ".[bitsandbytes]"', "hf auth login")
SMALL = {
    "--model": "model",
    "--resolution": "8",
    "--num-steps": "2",
    "--device": "cpu",
    "--precision": "fp32",
}
SHORT = SMALL | {
    "--reward": "pickscore=clip",
    "--monitor": "clipscore=clip",
    "--num-iterations": "1",
    "--rollout.num-prompts": "2",
    "--rollout.group-size": "2",
    "--rollout.num-steps": "2",
    "--eval.num-prompts": "2",
    "--eval.num-sample-prompts": "1",
    "--eval.num-steps": "2",
}
SHORT.pop("--num-steps")
STAND_INS = {"train": SHORT, "sample": SMALL}


def lines():
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def small(words):
    """A command with stand-ins for what is large: in the place of its own values, or added."""
    changes = dict(STAND_INS.get(words[0], {}))
    own, rest = [], iter(words)
    for word in rest:
        own.append(word)
        if word in changes:
            next(rest)
            own.append(changes.pop(word))
    return [*own, *(part for pair in changes.items() for part in pair)]


@pytest.mark.filterwarnings("ignore")
def test_every_line_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_job, "measure_model", figures.known_or_measured)
    monkeypatch.setattr(fit, "TEXTS", tmp_path / "texts")
    pipeline = tiny_pipeline()
    channels = pipeline.transformer.config.in_channels
    type(pipeline)(**pipeline.components | {"vae": autoencoder(channels)}).save_pretrained("model")
    save_clip("clip")
    commands = [shlex.split(line)[1:] for line in lines() if line not in INSTALLS]
    assert [line for line in lines() if line not in INSTALLS and not line.startswith("vgrpo ")] == []
    said = {}
    for words in commands:
        assert main(small(words)) == 0
        said[" ".join(words)] = capsys.readouterr().out
    assert "fits into 24GB" in next(text for command, text in said.items() if command.startswith("plan"))
    assert list(Path("texts").glob("*.safetensors"))
    assert "this run is finished" in next(text for command, text in said.items() if "--resume" in command)
    assert Path("runs/evening/report.html").is_file()
    assert len(list(Path("pictures").glob("*.png"))) == 1
    assert list(Path("runs/evening/export-comfyui").glob("*.safetensors"))
