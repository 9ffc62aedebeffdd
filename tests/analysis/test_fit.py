"""Jobs that fit: the plans of recipes, and `vgrpo train --fit`, which chooses by the same count."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from helpers import figures

from vgrpo.analysis.machine import Gpu
from vgrpo.analysis.plan import job as plan_job
from vgrpo.analysis.plan.advice import LADDER, LEARNED, advise, advise_stages
from vgrpo.analysis.plan.cards import card_of
from vgrpo.analysis.plan.figures import measure_model
from vgrpo.analysis.plan.job import GB, measure_job
from vgrpo.analysis.plan.work import Work
from vgrpo.commands import fit
from vgrpo.commands.main import main
from vgrpo.models.published import HUB_IDS
from vgrpo.models.settings import MemoryConfig
from vgrpo.recipes import RECIPES
from vgrpo.training.checkpoints.resume import FREE
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.settings.stages import Curriculum, Stage

ROOT = Path(__file__).parents[2]
ROOM = dict.fromkeys(("sd35m-pickscore", "sd35m-ocr", "sd35m-geneval", "sd35m-evening", "flux1-preference"), 24)
ROOM |= {"sd15-pickscore": 16, "sdxl-pickscore": 16}
QUICK = (
    "--rollout.num-prompts 4 --rollout.group-size 4 --rollout.num-steps 2 --eval.num-prompts 0 "
    "--eval.num-sample-prompts 1 --eval.num-steps 2"
).split()


def has_figures(recipe):
    config = recipe.stages[0].config if isinstance(recipe, Curriculum) else recipe
    return f"{HUB_IDS.get(config.model)} {config.resolution}" in json.loads(figures.PATH.read_text())


@pytest.fixture
def known(monkeypatch):
    """Figures of large models as they were measured; the next test measures one of them again."""
    monkeypatch.setattr(plan_job, "measure_model", figures.known)


def test_the_figures_are_what_is_measured():
    measured, known = (figure(RECIPES["sd15-pickscore"]) for figure in (measure_model, figures.known))
    costs = [asdict(each.pop("plain")) for each in (measured, known)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)
    assert measured == known


@pytest.mark.parametrize("name", ROOM)
def test_recipes_fit_their_gpu_with_a_short_first_evaluation(name, known, capsys):
    assert main(["plan", name, "--fit", f"{ROOM[name] - 1}GB", "--gpu", "4090", "--price", "0.5"]) == 0
    said = capsys.readouterr().out
    print(said)
    assert f"\nfits into {ROOM[name] - 1}GB" in said  # as it is; the last GB is the desktop's
    assert re.search(
        r"before the first iteration, and again after the last: [\d,]+ held-out images in at most [\d.]+ min", said
    )


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if has_figures(recipe)])
def test_the_first_evaluation_takes_at_most_a_tenth_of_a_recipe(name, known):
    recipe = RECIPES[name]
    stages = recipe.stages if isinstance(recipe, Curriculum) else (Stage("", recipe),)
    jobs = [measure_job(stage.config) for stage in stages]
    assert jobs[0].evaluation_work().flops <= sum(job.total_work().flops for job in jobs) / 10


def test_a_base_in_8_bits_comes_before_one_in_4(known):
    recipe = RECIPES["flux1-preference"]
    job = measure_job(replace(recipe, memory=replace(recipe.memory, weights="auto"), reward_device="cpu"))
    advice = advise(job, 26 * GB)
    assert "--memory.weights int8" in advice.options
    assert "8 bits" in advice.note()
    assert advice.total <= 26 * GB


def test_the_plan_is_what_a_gpu_took(known):
    """Memory of updates as `benchmarks/gpu.py` measured it; and time, of which the plan leaves out launches and gaps."""
    recipes = {"sd35-medium": "sd35m-pickscore", "sdxl": "sdxl-pickscore"}
    lines = [json.loads(line) for line in (ROOT / "benchmarks/gpu.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["model"] in recipes]
    assert len(lines) >= 4
    for line in lines:
        job, images = measure_job(RECIPES[recipes[line["model"]]]), line["update_images"]
        per_row = job.checkpointed_bytes if line["checkpointing"] else job.plain.update_bytes
        taken = line["memory_gb"]["weights"] + line["micro_batch"] * line["probes"] * per_row / GB
        least, most = (0.55, 0.75) if line["compile"] else (0.97, 1.05)  # what is fused keeps less for the backward
        assert least < line["memory_gb"]["update"] / taken < most
        again = line["checkpointing"]
        update = Work((2 + again) * job.plain.forward_flops, job.plain.update_moved + again * job.plain.forward_moved)
        seconds = (update * (images * line["probes"])).seconds(card_of(line["gpu"]), compiled=line["compile"])
        assert 1 < images / line["update_images_per_second"] / seconds < (1.4 if line["model"] == "sd35-medium" else 3)


def test_the_evening_takes_about_an_hour_on_a_4090(known, capsys):
    assert main(["plan", "sd35m-evening", "--gpu", "4090"]) == 0
    hours = float(re.search(r"([\d.]+) h for 40 iterations", capsys.readouterr().out).group(1))
    assert 0.75 <= hours <= 1.25


def test_a_base_is_quantised_last_and_what_changes_the_result_is_said(known):
    recipe = RECIPES["flux1-preference"]
    job = measure_job(replace(recipe, memory=MemoryConfig(), update=replace(recipe.update, micro_batch_size=None)))
    advice = advise(job, 20 * GB)
    assert advice.total <= 20 * GB
    assert {"--memory.weights nf4", "--memory.offload-rewards", "--memory.offload-encoders"} <= set(advice.options)
    assert "rounds the frozen network's linear layers to 4 bits" in advice.note()
    whole = advise(job, 80 * GB)
    assert "--memory.weights nf4" not in whole.options
    assert whole.note() == "none of it changes what is learned"


def test_all_that_is_chosen_may_differ_in_a_resumed_run_or_is_said_to_change_it():
    for option, value, _ in LADDER:
        setting = option.removeprefix("--").replace("-", "_")
        assert (setting in FREE) != (f"{option} {value}" in LEARNED)


def test_stages_share_what_one_of_them_needs(known):
    plain = replace(RECIPES["sd35m-multi"].stages[0].config, memory=MemoryConfig(), update=UpdateConfig())
    recipe = RECIPES["sd35m-multi"]
    stages = tuple(replace(stage, config=replace(stage.config, memory=MemoryConfig())) for stage in recipe.stages)
    chosen, found = advise_stages(replace(recipe, stages=stages), 24 * GB)
    assert all(advice.total <= 24 * GB for advice in found)
    assert len({stage.config.memory for stage in chosen.stages}) == 1
    assert chosen.stages[0].config.memory != plain.memory


def test_train_chooses_prints_and_keeps_what_fits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fit, "TEXTS", tmp_path / "texts")
    train = ["train", "sprites", *QUICK, "--update.lr-schedule", "constant", "--device", "cpu"]
    train += ["--output-dir", str(tmp_path / "run")]
    assert main([*train, "--num-iterations", "1", "--fit", "1.525GB"]) == 0
    said = capsys.readouterr().out
    chosen = re.search(r"--fit 1\.525GB: (1\.\d) GB by the plan, with (.*); none of it changes what is learned", said)
    assert chosen
    saved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    for option in chosen.group(2).split(" --"):
        name, _, value = option.removeprefix("--").replace("-", "_").partition(" ")
        section, setting = name.split(".")
        assert saved[section][setting] == (int(value) if value else True)
    assert main([*train, "--num-iterations", "2", "--fit", "100GB", "--resume"]) == 0
    assert "the run goes on with the settings in" in capsys.readouterr().out
    again = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (again["memory"], again["update"], again["num_iterations"]) == (saved["memory"], saved["update"], 2)


def test_what_does_not_fit_is_refused_with_the_least_that_would_do(tmp_path, capsys):
    train = ["train", "sprites", "--device", "cpu", "--output-dir", str(tmp_path / "run")]
    for words, message in (
        (["--fit", "0.5GB"], r"--fit 0\.5GB: the job does not fit into 0\.5 GB; 1\.\d GB would do, with --"),
        (["--fit", "much"], "--fit much: give a number of gigabytes"),
        (["--fit", "0GB"], "--fit 0GB: give a number of gigabytes"),
        (["--fit", "auto"], "--fit auto: there is no such GPU here"),
    ):
        assert main([*train, *words]) in (1, 2)
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_texts_are_encoded_first_where_encoders_would_wait_and_the_disk_need_not_hold_much():
    said = []

    def cache_of(**changes):
        config = replace(RECIPES["sprites"], **{"memory": MemoryConfig(offload_encoders=True)} | changes)
        return fit.fitted(config, "100GB", resume=False, say=said.append).memory.prompt_cache

    assert cache_of() == fit.TEXTS
    assert re.search(r"encodes all prompts first, with --memory.prompt-cache .*encoded-prompts: at most 0\.\d GB", said[-1])
    assert cache_of(memory=MemoryConfig(offload_encoders=True, prompt_cache=Path("mine"))) == Path("mine")
    assert cache_of(memory=MemoryConfig()) is None
    assert cache_of(finetune="full") is None
    assert cache_of(num_iterations=10**6) is None


def test_auto_is_what_the_gpu_has_free(monkeypatch):
    cards = [Gpu(name="a", total=24 * GB, free=free * GB, bf16=True) for free in (3, 100)]
    monkeypatch.setattr(fit, "gpus", lambda: cards)
    said = []
    for device in ("auto", "cuda:1"):
        config = replace(RECIPES["sprites"], device=device)
        assert fit.fitted(config, "auto", resume=False, say=said.append) == config
    assert all("GB by the plan, as it is" in line for line in said)
    with pytest.raises(ValueError, match="no such GPU here"):
        fit.fitted(replace(RECIPES["sprites"], device="cuda:2"), "auto", resume=False, say=said.append)
