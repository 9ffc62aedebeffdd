"""The best weights of a run by its held-out evaluations, beside the newest."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.tiny import red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.commands.main import main
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.lora_files import WEIGHTS
from vgrpo.rewards.base import RewardError
from vgrpo.training import best, loop
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.tasks.task import Given

EVAL = EvalConfig(num_prompts=4, num_images=1, num_steps=2, num_sample_prompts=2, sample_every=100, every=2)
REWARDS = {2: 0.3, 3: 0.2, 4: 0.5, 5: 0.1, 6: 0.4, 7: 0.5}  # after which iteration; of equal ones the first is kept
RATE = UpdateConfig(lr=0.05)


@pytest.fixture
def scored(monkeypatch):
    """Evaluations draw and judge as they do; their reward is one that the test knows."""
    real, phases = best.evaluate_run, []

    def evaluated(run, phase, sampling):
        phases.append((run.iteration, phase))
        scores = real(run, phase, sampling)
        return scores | {"reward": REWARDS[run.iteration]} if scores and run.iteration else scores

    monkeypatch.setattr(best, "evaluate_run", evaluated)
    monkeypatch.setattr("vgrpo.training.loop.evaluate_run", evaluated)
    return phases


def job(folder, **changes):
    return tiny_config(folder, **({"num_iterations": 7, "eval": EVAL, "update": RATE} | changes))


def run(config, reward=red, **options):
    return train(config, pipeline=tiny_pipeline(), reward=reward, quiet=True, **options)


def content(folder):
    return json.loads((folder / "eval.json").read_text())


def weights(folder):
    return load_file(folder / WEIGHTS)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_best_stays_beside_the_last(tmp_path, scored, capsys):
    whole, early = tmp_path / "whole", tmp_path / "early"
    run(job(whole))
    assert [iteration for iteration, _ in scored] == [0, 2, 4, 6, 7]
    assert (content(whole)["best"]["iteration"], content(whole)["best"]["reward"]) == (4, 0.5)
    assert content(whole)["tuned"]["reward"] == 0.5
    run(job(early, num_iterations=4, eval=EvalConfig(num_prompts=0, num_sample_prompts=2, num_steps=2)))
    assert same(weights(whole / "lora-best"), weights(early / "lora"))  # evaluations change nothing that is learned
    assert not same(weights(whole / "lora-best"), weights(whole / "lora"))
    assert not list(whole.glob(".*best*"))

    capsys.readouterr()
    assert main(["export", str(whole), "--best"]) == 0
    folder = whole / "export-diffusers-best"
    assert capsys.readouterr().out.strip() == str(folder)
    assert same(weights(folder), weights(whole / "lora-best"))
    card = (folder / "README.md").read_text()
    assert "| iterations | 4, the best of the run's held-out evaluations |" in card
    assert "| reward | " in card
    assert "| 0.500" in card
    assert "a little too good" in card
    assert main(["export", str(whole), "--best", "--iteration", "4"]) == 1
    assert main(["export", str(early), "--best"]) == 1
    assert "only runs with --eval.every keep their best" in capsys.readouterr().err


def test_without_evaluations_on_the_way_nothing_is_added(tmp_path):
    run(
        job(tmp_path / "run", num_iterations=1, eval=EvalConfig(num_prompts=2, num_images=1, num_steps=2, num_sample_prompts=2))
    )
    assert not list((tmp_path / "run").glob("*best*"))
    assert "best" not in content(tmp_path / "run")


@pytest.mark.parametrize("stop_at", [2, 4, 5])
def test_a_stopped_run_has_the_same_best_in_the_end(tmp_path, scored, stop_at):
    """Stopped in the evaluation after iteration 2 or 4, or at an end after 5 that is not the end."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    run(job(whole))

    real = best.evaluate_run

    def stopped(run, phase, sampling):
        if run.iteration == stop_at:
            raise RewardError("away")
        return real(run, phase, sampling)

    with pytest.MonkeyPatch.context() as patch:
        if stop_at < 5:
            patch.setattr(best, "evaluate_run", stopped)
            with pytest.raises(RewardError):
                run(job(folder))
        else:
            run(job(folder, num_iterations=5))
    scored.clear()
    run(job(folder), resume=True)
    assert (scored[0][0] == stop_at) is (stop_at < 5)  # what was evaluated before is not again
    assert content(folder)["best"] == content(whole)["best"]
    assert same(weights(folder / "lora-best"), weights(whole / "lora-best"))
    assert same(weights(folder / "lora"), weights(whole / "lora"))


def test_a_best_of_a_future_that_is_gone_is_sought_anew(tmp_path, scored):
    """The newest checkpoint is lost, and the run goes on from before its best."""
    folder = tmp_path / "run"
    run(job(folder, num_iterations=4, checkpoint_every=3, keep_checkpoints=9))
    shutil.rmtree(folder / "checkpoints/iteration-000004")
    notices = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARDS, 4, 0.2)
        listeners = [lambda event: notices.append(getattr(event, "text", ""))]
        given = Given(pipeline=tiny_pipeline(), reward=red)
        loop.train(job(folder, num_iterations=4), given, resume=True, listeners=listeners)
    assert any("lora-best is not of the iterations before 3: the best is sought anew" in text for text in notices)
    assert content(folder)["best"]["reward"] == 0.2


def test_a_best_that_was_not_written_before_a_kill_is_written_on_resume(tmp_path, scored, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(best, "_write", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(job(folder))
    assert not (folder / "lora-best").exists()
    run(job(folder, num_iterations=2), resume=True)
    assert content(folder)["best"]["iteration"] == 2
    assert same(weights(folder / "lora-best"), weights(folder / "lora"))


def test_full_fine_tuning_keeps_a_pipeline(tmp_path, scored):
    folder = tmp_path / "run"
    run(job(folder, num_iterations=3, finetune="full", eval=replace(EVAL, every=2)))
    assert content(folder)["best"]["iteration"] == 2
    trained, end = (
        load_file(folder / name / "transformer/diffusion_pytorch_model.safetensors") for name in ("pipeline-best", "pipeline")
    )
    assert trained.keys() == end.keys()
    assert not same(trained, end)
