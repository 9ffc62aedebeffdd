"""How processes come together, stop together, and end where one of them is lost; a run goes on in another number of them."""

import json
import os
import shutil
import signal
import time

import pytest
from helpers.ranks import free_port, launched_processes
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.core.processes import PeerError
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.support.interrupts import StopRequested
from vgrpo.training import loop
from vgrpo.training.processes.joining import joined
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given


def run(folder, port, *, before=lambda rank, iteration: None, resume=False, **changes):
    """A small run of the launched processes: the error that it ended with, if any, as text."""
    os.environ["MASTER_PORT"] = str(port)
    settings = {
        "rollout": RolloutConfig(num_prompts=3, group_size=2, num_steps=2, batch_size=2),
        "eval": EvalConfig(num_prompts=3, num_images=1, num_sample_prompts=1, num_steps=2, sample_every=100),
        "eval_prompts": str(folder.parent / "held-out.txt"),
    }
    iterate = loop.iterate

    def watched(run):
        before(run.processes.rank, run.iteration)
        return iterate(run)

    loop.iterate = watched
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    try:
        with joined() as processes:
            loop.train(tiny_config(folder, **settings | changes), given, resume=resume, processes=processes)
    except (PeerError, StopRequested, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        loop.iterate = iterate
    return ""


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rewards_of(folder):
    return [{name: value for name, value in line.items() if name.startswith("reward/")} for line in lines_of(folder)]


def stop_at_2(rank, iteration):
    if rank == 1 and iteration == 2:
        os.kill(os.getpid(), signal.SIGTERM)


def die_at_1(rank, iteration):
    if rank == 1 and iteration == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def first_dies(folder, port):
    def die(rank, iteration):
        if rank == 0 and iteration == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return run(folder / "first", port, before=die)


def scenes(folder, ports):
    """One run after another."""
    rank, answers = int(os.environ["RANK"]), {}
    answers["stopped"] = run(folder / "run", ports[0], num_iterations=4, before=stop_at_2)
    if rank == 0:
        shutil.copytree(folder / "run", folder / "alone")
    answers["resumed"] = run(folder / "run", ports[1], num_iterations=4, resume=True)
    answers["seeds"] = run(folder / "other", ports[2], seed=rank)
    answers["few"] = run(folder / "few", ports[3], rollout=RolloutConfig(num_prompts=1, group_size=2, num_steps=2))
    began = time.monotonic()
    answers["lost"] = run(folder / "lost", ports[4], num_iterations=4, before=die_at_1)
    return answers | {"seconds": time.monotonic() - began}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder of the runs, and what process 0 tells of them; the other one is killed at the end."""
    folder = tmp_path_factory.mktemp("joined")
    (folder / "held-out.txt").write_text("a cup\na red moon\na star\n")
    answers = launched_processes(2, scenes, folder, [free_port() for _ in range(5)])
    assert answers[1] is None
    return folder, answers[0]


def test_all_stop_together_when_one_is_asked_to(told):
    folder, answers = told
    assert answers["stopped"] == "StopRequested: asked to stop by SIGTERM"
    assert len(lines_of(folder / "alone")) == 2
    assert (folder / "alone/checkpoints/iteration-000002").is_dir()


def test_another_number_of_processes_goes_on_with_the_same_rollout(told):
    folder, answers = told
    assert answers["resumed"] == ""
    os.environ.pop("WORLD_SIZE", None)
    assert run(folder / "alone", 0, num_iterations=4, resume=True) == ""
    assert [line["iteration"] for line in lines_of(folder / "run")] == [0, 1, 2, 3]
    assert rewards_of(folder / "run")[:3] == rewards_of(folder / "alone")[:3]
    scores = [json.loads((folder / name / "eval.json").read_text()) for name in ("run", "alone")]
    assert scores[0]["base"] == scores[1]["base"]
    assert scores[0]["tuned"]["reward"] == pytest.approx(scores[1]["tuned"]["reward"], abs=2e-3)


def test_processes_that_disagree_end_with_the_rank_that_differs(told):
    assert told[1]["seeds"].startswith("PeerError: the settings of rank 1 differ from those of rank 0")
    assert not (told[0] / "other").exists()


def test_more_processes_than_prompts_are_refused(told):
    assert told[1]["few"].startswith("ValueError: rollout.num_prompts=1: a group is drawn in one process")


def test_a_killed_process_ends_the_others_soon_and_is_named(told):
    folder, answers = told
    assert answers["lost"].startswith("PeerError: rank 1 (")
    assert "is gone" in answers["lost"]
    assert answers["seconds"] < 60
    assert (folder / "lost/checkpoints/iteration-000001").is_dir()  # of the last whole iteration


def test_the_others_end_soon_where_the_first_is_killed(told):
    killed, other = launched_processes(2, first_dies, told[0], free_port(), timeout=120)
    assert killed is None
    assert other.startswith("PeerError: rank 0")
