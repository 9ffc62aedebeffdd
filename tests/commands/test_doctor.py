"""`vgrpo doctor`: quick, calm about what is missing, and silent about secrets."""

import time

import pytest
from helpers.hub import use_hub
from huggingface_hub import constants

from vgrpo.analysis import machine
from vgrpo.analysis.machine import GB, Gpu
from vgrpo.commands.main import main
from vgrpo.recipes import RECIPES

TOKEN = "hf_" + "abcdefgh" * 4


def said(capsys):
    assert main(["doctor"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_hub_it_is_quick_and_names_every_recipe(capsys, monkeypatch, tmp_path, offline):
    use_hub("http://127.0.0.1:9", tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    began = time.process_time()
    out = said(capsys)
    assert time.process_time() - began < 5
    assert ("HF_HUB_OFFLINE is set" in out) == offline
    assert ("http://127.0.0.1:9 cannot be reached" in out) != offline
    assert all(name in out for name in RECIPES)
    assert "vgrpo train sprites" in out.split("to type next:")[1]


def test_a_token_is_told_of_and_never_shown(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    out = said(capsys)
    assert "hub's token: is set" in out
    assert TOKEN not in out


def test_a_hub_that_keeps_one_waiting_is_left(monkeypatch, tmp_path):
    use_hub("http://10.255.255.1", tmp_path, monkeypatch)  # an address from which nothing comes back
    monkeypatch.setattr(machine, "PATIENCE", 0.05)
    began = time.perf_counter()
    assert "10.255.255.1" in machine.hub_access()
    assert time.perf_counter() - began < 2


def test_a_gpu_is_held_against_what_recipes_need(capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    card = Gpu(name="NVIDIA GeForce RTX 4090", total=24 * GB, free=22 * GB, bf16=True)
    monkeypatch.setattr(machine, "gpus", lambda: [card])
    out = said(capsys)
    assert "GPU 0: NVIDIA GeForce RTX 4090, 24.0 GB, of which 22.0 GB are free; bf16" in out
    assert "no: the weights of black-forest-labs/FLUX.1-dev alone are 22.2 GB in bf16, and 22.0 GB are free" in out
    assert "perhaps: the weights of stabilityai/stable-diffusion-3.5-medium alone are 4.2 GB" in out
    command = out.split("to type next:\n  ")[1].split("\n")[0]
    assert command.startswith("vgrpo plan ")
    assert command.endswith(" --fit 22GB")
    assert command.split()[2] in RECIPES


def test_it_takes_no_options(capsys):
    assert main(["doctor", "--all"]) == 2
    assert "takes no options" in capsys.readouterr().err
    assert main(["doctor", "--help"]) == 0
