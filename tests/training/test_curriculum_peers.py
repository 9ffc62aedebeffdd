"""A curriculum in two processes that see different disks: stopped in its second stage by a signal to one, and gone on with."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.curricula import COLUMNS, EVAL, two_stages, weights_of
from helpers.ranks import in_processes
from helpers.tiny import tiny_pipeline

from vgrpo import Curriculum, train
from vgrpo.core.processes import ALONE
from vgrpo.models.settings import MemoryConfig
from vgrpo.support.interrupts import StopRequested
from vgrpo.training import loop
from vgrpo.training.curriculum.curriculum import train_curriculum
from vgrpo.training.curriculum.score_table import ScoreTable
from vgrpo.training.processes.peers import Peers
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.settings.config_files import load_yaml

ROLLOUT = RolloutConfig(num_prompts=2, group_size=4, num_steps=3, batch_size=4)


def refusal(curriculum):
    with pytest.raises(ValueError, match="one by one") as error:
        train_curriculum(curriculum, pipeline=tiny_pipeline(), processes=Peers())
    return str(error.value)


def scenes(folder):
    rank, said = dist.get_rank(), []
    (folder / f"disk-{rank}").mkdir()
    os.chdir(folder / f"disk-{rank}")
    curriculum = two_stages(Path("run"), rollout=ROLLOUT)
    refused = refusal(two_stages(Path("run"), rollout=ROLLOUT, memory=MemoryConfig(shard="full")))
    iterate = loop.iterate

    def stopped(run):
        if (rank, run.config.seed, run.iteration) == (1, 1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(run)

    loop.iterate = stopped
    with pytest.raises(StopRequested):
        train_curriculum(curriculum, pipeline=tiny_pipeline(), say=said.append, processes=Peers())
    loop.iterate = iterate
    done = train_curriculum(curriculum, pipeline=tiny_pipeline(), resume=True, say=said.append, processes=Peers())
    found = {"said": said, "refused": refused, "weights": weights_of(done.pipeline), "evaluation": done.evaluation}
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curriculum")
    in_processes(2, scenes, folder)
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def lines_of(stage):
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def test_the_first_process_alone_writes_and_speaks(folder, ranks):
    assert {path.name for path in (folder / "disk-0/run").iterdir()} >= {"config.yaml", "curriculum.json", *COLUMNS[1:]}
    assert list((folder / "disk-1").iterdir()) == []
    assert ranks[1]["said"] == []
    assert "or, to go on with all stages,\n  vgrpo train run/config.yaml --resume" in ranks[0]["said"]


def test_all_train_to_the_end_of_all_stages(folder, ranks):
    assert [len(lines_of(folder / "disk-0/run" / name)) for name in COLUMNS[1:]] == [2, 3]
    first, second = (each["weights"] for each in ranks)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert ranks[0]["evaluation"] == ranks[1]["evaluation"] == json.loads((folder / "disk-0/run/curriculum.json").read_text())


def test_a_stage_starts_in_every_process_where_the_one_before_ended(folder, tmp_path):
    """What it draws first, half of it in a process that does not see the adapter's file, is what one process draws."""
    stage = folder / "disk-0/run" / COLUMNS[2]
    config = load_yaml(stage / "config.yaml")
    adapter, without = replace(config.lora, init=stage.parent / COLUMNS[1] / "lora"), replace(EVAL, num_prompts=0)
    alone = replace(config, output_dir=tmp_path / "alone", num_iterations=1, lora=adapter, eval=without)
    train(alone, pipeline=tiny_pipeline(), quiet=True)
    there, here = lines_of(stage)[0], lines_of(tmp_path / "alone")[0]
    names = [name for name in here if name.startswith("reward/")]
    assert len(names) > 2
    assert all(there[name] == here[name] for name in names)


def test_the_table_is_what_one_process_measures(folder, ranks, tmp_path):
    run, pipeline = folder / "disk-0/run", tiny_pipeline()
    pipeline.load_lora_weights(run / COLUMNS[2] / "lora")
    table = ScoreTable(two_stages(run, rollout=ROLLOUT), tmp_path, pipeline, ALONE)
    table.add(COLUMNS[2])
    assert ranks[0]["evaluation"]["columns"] == COLUMNS
    for row, other in zip(table.content()["rows"], ranks[0]["evaluation"]["rows"], strict=True):
        assert set(other["scores"]) == set(COLUMNS)
        assert row["scores"][COLUMNS[2]] == pytest.approx(other["scores"][COLUMNS[2]], abs=2e-4)


SIGNALS = """
import os, signal

def stop(images, prompts):
    os.kill(os.getpid(), signal.SIGTERM)
    return images.mean((1, 2, 3))
"""


def test_a_signal_while_scores_are_measured_loses_none(tmp_path, monkeypatch):
    (tmp_path / "signals_while_it_judges.py").write_text(SIGNALS)
    monkeypatch.syspath_prepend(tmp_path)
    first, second = two_stages(None).stages
    first = replace(first, config=replace(first.config, monitor=("signals_while_it_judges:stop",)))
    said = []
    with pytest.raises(StopRequested):
        train_curriculum(
            Curriculum(stages=(first, second), output_dir=tmp_path / "run"), pipeline=tiny_pipeline(), say=said.append
        )
    assert said[-1] == f"to go on with all stages,\n  vgrpo train {tmp_path}/run/config.yaml --resume"
    content = json.loads((tmp_path / "run/curriculum.json").read_text())
    assert content["columns"] == ["base"]
    assert len(content["rows"]) == 4
    assert not list((tmp_path / "run").glob("stage-*"))


def test_weights_that_are_spread_are_refused(ranks):
    assert all(each["refused"].startswith("memory.shard=full: the stages of a curriculum share a model") for each in ranks)
