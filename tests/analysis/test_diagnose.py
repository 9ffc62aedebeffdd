"""`vgrpo diagnose`: what it measures is true, and it changes nothing."""

import json

import pytest
import torch
from helpers import pipelines
from helpers.tiny import tiny_pipeline

from vgrpo import Prompt
from vgrpo.analysis.diagnose.diagnosis import recommend
from vgrpo.analysis.diagnose.measure import Subject, loss_by_time, quadratic_r2, ratio_moves, variation
from vgrpo.commands.main import main
from vgrpo.models.defaults import defaults_of
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import VGRPO
from vgrpo.sampling.draw import draw_groups
from vgrpo.sampling.settings import Sampling


@pytest.fixture(scope="module")
def subject():
    policy = make_policy(tiny_pipeline(), max_sequence_length=0)
    policy.module.requires_grad_(False)
    prompts = [Prompt(text="a red heart"), Prompt(text="two keys")]
    rollout = draw_groups(policy, prompts, 0, "diagnose", group_size=8, sampling=Sampling(solver="euler", num_steps=3))
    add_lora(policy, LoraConfig(rank=4, alpha=8), 0)
    return Subject(policy=policy, rollout=rollout, guidance=1.0, micro_batch_size=5, seed=0)


def test_the_parametrisations_differ_by_powers_of_t(subject):
    for line in loss_by_time(subject, 5):
        assert line["v"] == pytest.approx(line["x"] / line["t"] ** 2, rel=1e-5)
        assert line["eps"] == pytest.approx(line["v"] * (1 - line["t"]) ** 2, rel=1e-4, abs=1e-9)


def test_variation_is_that_of_the_surrogate(subject):
    objective = VGRPO()
    s = subject.surrogate(objective, "variation", "name", 0).double()
    got = variation(subject, objective, "name", num_repeats=1)
    assert got["overall"] == pytest.approx(float(s.std(correction=0) / s.mean().abs()), rel=1e-4)
    within = (s[:8].std(correction=0) + s[8:].std(correction=0)) / 2 / s.mean().abs()
    assert got["within"] == pytest.approx(float(within), rel=1e-4)


def test_shared_pairs_lower_the_variation_within_groups(subject):
    shared, alone = (variation(subject, VGRPO(share_pairs=share), "x", 8)["within"] for share in ("group", "none"))
    assert shared < alone


def test_r2_of_a_parabola_is_one_and_of_noise_small():
    x = torch.linspace(0, 1, 200)
    assert quadratic_r2(x, 3 * x**2 - x + 2) == pytest.approx(1)
    assert quadratic_r2(x, torch.randn(200, generator=torch.Generator().manual_seed(0))) < 0.1


def test_a_larger_step_moves_the_ratios_further_and_is_taken_back(subject):
    before = {name: value.detach().clone() for name, value in trainable(subject.policy.module).items()}
    small, large = (ratio_moves(subject, VGRPO(), lr).median() for lr in (1e-4, 1e-2))
    assert 0 < small < large
    assert all(torch.equal(before[name], value) for name, value in trainable(subject.policy.module).items())


def test_the_recommendation_follows_the_figures():
    found = {
        "variation_by_num_probes": {"1": {"within": 0.9}, "4": {"within": 0.12}, "16": {"within": 0.1}},
        "ratio_move": {"p90": 0.0234},
    }
    assert recommend(found) == {"num_probes": 4, "ratio_clip": 0.02}


def test_the_command_leaves_figures_and_a_picture(tmp_path, capsys):
    arguments = ["--num-prompts", "2", "--group-size", "4", "--num-steps", "3", "--output-dir", str(tmp_path / "out")]
    assert main(["diagnose", "sprites", *arguments]) == 0
    found = json.loads((tmp_path / "out/diagnosis.json").read_text())
    assert found["num_images"] == 8
    assert (tmp_path / "out/diagnosis.png").stat().st_size > 10_000
    assert "recommended: --objective.num-probes" in capsys.readouterr().out


def test_any_supported_model_is_diagnosed_at_a_size_of_its_own_and_with_little_memory(tmp_path):
    pipelines.flux().save_pretrained(tmp_path / "flux")
    (tmp_path / "prompts.txt").write_text("a red heart\ntwo keys\n")
    line = f"{tmp_path}/flux --prompts {tmp_path}/prompts.txt --num-prompts 2 --group-size 4 --num-steps 2 --resolution 24 "
    line += "--max-sequence-length 16 --precision fp32 --lora.rank 2"
    found = []
    for name, options in (("whole", ""), ("small", "--memory.gradient-checkpointing")):
        assert main(["diagnose", *f"{line} {options} --output-dir {tmp_path}/{name}".split()]) == 0
        diagnosis = json.loads((tmp_path / name / "diagnosis.json").read_text())
        found.append(diagnosis["gradient"]["all three"]["norm"])
    own = defaults_of(make_policy(pipelines.flux(), resolution=24))
    assert own.guidance == 3.5
    assert (diagnosis["num_steps"], diagnosis["shift"], diagnosis["guidance"]) == (2, own.shift, own.guidance)
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert min(found[0]) > 0


def test_bad_input_is_named(capsys):
    assert main(["diagnose", "sprites", "--group-size", "1"]) == 1
    assert "group_size=1" in capsys.readouterr().err
    assert main(["diagnose", "no-such-folder"]) == 1
    assert "no-such-folder" in capsys.readouterr().err
