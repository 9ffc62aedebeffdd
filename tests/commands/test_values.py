"""Every number that a command takes has a least and a most: found by going through all settings, so that a new one has too."""

import dataclasses
import math
import typing
from pathlib import Path

import pytest

from vgrpo.analysis.race.config import BenchConfig
from vgrpo.commands.diagnose import DiagnoseConfig
from vgrpo.commands.plan import Machine
from vgrpo.commands.prompts import PromptsConfig
from vgrpo.commands.sample import SampleConfig
from vgrpo.evaluation.job import EvalJob
from vgrpo.evaluation.settings import EvalConfig, EvalOptions
from vgrpo.models.settings import LoraConfig, MemoryConfig
from vgrpo.objectives import OBJECTIVES
from vgrpo.objectives.advantage import Advantages
from vgrpo.rewards.served.server import ServeConfig
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig
from vgrpo.worlds.sprites.preference import PreferenceConfig
from vgrpo.worlds.sprites.pretrain import PretrainConfig

HERE = Path("here")
NEEDED = {
    SampleConfig: {"prompts": HERE, "output_dir": HERE},
    EvalJob: {"output_dir": HERE},
    PromptsConfig: {"kind": "ocr", "output": HERE},
}
SETTINGS = (
    *(
        Config,
        RolloutConfig,
        UpdateConfig,
        Advantages,
        LoraConfig,
        EvalConfig,
        EvalOptions,
        MemoryConfig,
        SampleConfig,
        EvalJob,
    ),
    *(DiagnoseConfig, BenchConfig, Machine, PromptsConfig, ServeConfig, PretrainConfig, PreferenceConfig, *OBJECTIVES.values()),
)
FINE_AT_0 = {
    "reward_workers",
    *("seed", "seeds", "ema_decay", "num_prompts", "weight_decay", "num_warmup_steps", "betas", "max_sequence_length", "port"),
    *("kl_weight", "old_weight", "ref_weight", "num_skipped_steps", "splits", "window_range", "looseness", "caption_dropout"),
    *("held_out_prompts", "max_grad_norm", "price", "bonus", "lag", "every"),
}
"""Names of settings that may be 0, in one of the classes at least."""
BELOW_0 = {"seed", "seeds", "reward_weights"}


def numbers():
    """Every number, or tuple of numbers, of every settings class: the class, the name, and int or float."""
    for kind in SETTINGS:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            for part in (hint, *typing.get_args(hint)):
                inner = typing.get_args(part)[0] if typing.get_origin(part) is tuple else part
                if inner in (int, float):
                    yield kind, field, inner, typing.get_args(part) if inner is not part else ()
                    break


def made(kind, field, value, shape):
    """Settings with this value: as they stand in a run, if they are an algorithm's."""
    if shape:
        value = (value,) * (1 if shape[-1] is ... else len(shape))
    settings = kind(**NEEDED.get(kind, {}), **{field.name: value})
    return Config(objective=settings) if kind in OBJECTIVES.values() else settings


NUMBERS = list(numbers())
WRONG = {int: (-1, 0, 10**10, 2**63), float: (-1.0, 0.0, math.nan, math.inf, -math.inf, 1e-40, 1e13, 1e300)}


@pytest.mark.parametrize(
    ("kind", "field", "type_", "shape"), NUMBERS, ids=[f"{kind.__name__}-{field.name}" for kind, field, _, _ in NUMBERS]
)
def test_a_number_that_means_nothing_is_refused_with_its_name(kind, field, type_, shape):
    for value in WRONG[type_]:
        if (value == 0 and field.name in FINE_AT_0) or (field.name in BELOW_0 and abs(value) < 2**63):
            continue
        with pytest.raises(ValueError, match=field.name.replace("_", "[_-]")) as caught:
            made(kind, field, value, shape)
        assert "\n" not in str(caught.value), value
        assert len(str(caught.value)) < 500, value


def test_the_walk_finds_numbers_of_all_forms():
    found = {(kind.__name__, field.name) for kind, field, _, _ in NUMBERS}
    assert {
        ("UpdateConfig", "betas"),
        ("LoraConfig", "rank"),
        ("Config", "reward_timeout"),
        ("Config", "reward_weights"),
        ("BranchGRPO", "splits"),
        ("EvalJob", "resolution"),
    } <= found


@pytest.mark.parametrize("kind", [Config, SampleConfig, EvalJob, DiagnoseConfig])
@pytest.mark.parametrize("device", ["banana", "", "cuda:", "cuda:-1", "cuda:1.5", "CPU", "cuda:0\n", "auto "])
def test_a_device_that_no_machine_has_is_refused(kind, device):
    with pytest.raises(ValueError, match="device="):
        kind(**NEEDED.get(kind, {}), device=device)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3", "mps", "xpu:1"])
def test_a_device_of_another_machine_may_stand_in_a_file(device):
    assert Config(device=device, reward_device=device).device == device
