"""Checkpoints of spread weights: whole or absent, and gone on with in any number of processes."""

import json
import shutil

import pytest
import torch
import torch.distributed as dist
from diffusers import SD3Transformer2DModel
from helpers.ranks import in_processes
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.core.processes import ALONE, PeerError
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.settings import MemoryConfig
from vgrpo.training.checkpoints.checkpoint import load, load_newest
from vgrpo.training.checkpoints.manifest import CheckpointError
from vgrpo.training.loop import train
from vgrpo.training.processes.peers import Peers
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.shards import writer
from vgrpo.training.start import Given


def go(folder, processes, num_iterations, *, resume=False, gather=True):
    settings = {
        "rollout": RolloutConfig(num_prompts=3, group_size=2, num_steps=2, batch_size=2),
        "eval": EvalConfig(num_prompts=3, num_images=1, num_sample_prompts=1, num_steps=2, sample_every=100),
        "held_out_prompts": 1,
        "finetune": "full",
        "memory": MemoryConfig(shard="full", gather=gather, offload_copies=gather),
        "checkpoint_every": 1,
    }
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    train(tiny_config(folder, num_iterations=num_iterations, **settings), given, resume=resume, processes=processes)


def fails(folder, processes):
    """The disk of rank 1 is full when it saves for the second time."""
    write, calls = writer.write_file, []

    def refuse(path, parts):
        calls.append(path)
        if processes.rank == 1 and len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        return write(path, parts)

    writer.write_file = refuse
    try:
        go(folder, processes, 2)
    except (OSError, PeerError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        writer.write_file = write
    return ""


def walk(folder):
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    failure = ""
    if rank < 2:
        go(folder / "two", Peers(pair), 2)
        failure = fails(folder / "full", Peers(pair))
    dist.barrier()
    if rank == 2:
        shutil.copytree(folder / "two", folder / "alone")
        shutil.copytree(folder / "two", folder / "three")
    dist.barrier()
    if rank == 2:
        go(folder / "alone", ALONE, 4, resume=True)
    go(folder / "three", Peers(), 4, resume=True, gather=False)
    return failure


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return folder, in_processes(3, walk, folder)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_another_number_of_processes_goes_on_with_the_same_rollout(told):
    three, alone = (lines_of(told[0] / name) for name in ("three", "alone"))
    assert [line["iteration"] for line in three] == [0, 1, 2, 3]
    rewards = [key for key in alone[2] if key.startswith("reward/")]
    assert rewards
    assert [[line[key] for key in rewards] for line in three[:3]] == [[line[key] for key in rewards] for line in alone[:3]]
    for key, value in alone[3].items():
        if "second" not in key:
            assert three[3][key] == pytest.approx(value, rel=1e-2, abs=1e-6), key


def test_a_part_for_each_process_and_no_pickle(told):
    path = told[0] / "two/checkpoints/iteration-000002"
    parts = ["state-00001-of-00002.safetensors", "state-00002-of-00002.safetensors"]
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", *parts, "state.json"]
    sizes = [(path / name).stat().st_size for name in parts]
    assert max(sizes) < 1.1 * min(sizes)


def test_the_weights_are_a_pipeline_of_the_network_s_own_class(told):
    networks = [SD3Transformer2DModel.from_pretrained(told[0] / name / "pipeline/transformer") for name in ("three", "alone")]
    start = tiny_pipeline().transformer.state_dict()
    for (name, value), other in zip(networks[0].state_dict().items(), networks[1].state_dict().values(), strict=True):
        assert (value - other).abs().max() < 1e-3, name
        assert value.shape == start[name].shape
    config = json.loads((told[0] / "three/pipeline/transformer/config.json").read_text())
    assert config["_class_name"] == "SD3Transformer2DModel"


def test_a_disk_that_refuses_one_part_leaves_the_checkpoint_before(told):
    folder, answers = told
    assert answers[0] == "PeerError: another process could not write its part of a checkpoint"
    assert answers[1].startswith("OSError: ")
    assert "the disk is full" in answers[1]
    found = load_newest(folder / "full/checkpoints")
    assert found.iteration == 0
    assert [path.name for path in (folder / "full/checkpoints").iterdir()] == ["iteration-000000"]


def test_a_damaged_part_is_noticed(told, tmp_path):
    shutil.copytree(told[0] / "two/checkpoints", tmp_path / "checkpoints")
    path = tmp_path / "checkpoints/iteration-000002/state-00002-of-00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"state-00002-of-00002\.safetensors is not what was written"):
        load(tmp_path / "checkpoints", 2)
    assert load_newest(tmp_path / "checkpoints").iteration == 1
    assert torch.is_tensor(load_newest(tmp_path / "checkpoints").state["weights"]["pos_embed.proj.bias"].read())
