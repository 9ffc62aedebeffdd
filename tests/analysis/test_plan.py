"""What a plan says is what a run does."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vgrpo.analysis.plan.advice import advise
from vgrpo.analysis.plan.cards import CARDS, Card, card_of
from vgrpo.analysis.plan.job import GB, measure_job
from vgrpo.analysis.plan.measure import cost
from vgrpo.analysis.plan.traffic import Traffic, traffic
from vgrpo.analysis.plan.work import Work
from vgrpo.commands.main import main
from vgrpo.commands.plan import Machine
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig, MemoryConfig
from vgrpo.models.skeleton import from_folder
from vgrpo.objectives import VGRPO, DiffusionNFT, MixGRPO
from vgrpo.recipes import RECIPES
from vgrpo.rewards.downloads import SIZES
from vgrpo.rewards.registry import MODELS
from vgrpo.training.loop import iterate
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run

ROWS = 256
MEASURE = f"""
import torch
from vgrpo.models.settings import LoraConfig
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.lora import add_lora

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

policy = make_policy(load_pipeline("sprites"), max_sequence_length=0)
policy.module.requires_grad_(False)
add_lora(policy, LoraConfig(), 0)
for _ in range(2):  # the first call leaves behind what the allocator and oneDNN keep
    open("/proc/self/clear_refs", "w").write("5")  # forgets the highest value
    before = memory("VmRSS")
    text, x, t = policy.blank_text({ROWS}), torch.rand({ROWS}, *policy.latent_shape), torch.rand({ROWS})
    text.sequence.normal_(), text.pooled.normal_()
    v = policy.predict(x, t, text, 1.0)
    v.backward(torch.ones_like(v))
    held = memory("VmHWM") - before
    del text, x, t, v
print("held", held)
"""


@pytest.fixture
def sprites():
    policy = from_folder("sprites", torch.float32, max_sequence_length=0)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(), 0)
    return policy


def test_an_update_takes_the_memory_of_a_real_one(sprites):
    planned = cost(sprites, 1.0).update_bytes * ROWS
    returned = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed memory goes back
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=returned).stdout
    measured = int(re.search(r"held (\d+)", output).group(1))
    assert planned == pytest.approx(measured, rel=0.2)


def test_flops_are_those_of_a_real_forward(sprites):
    policy = make_policy(load_pipeline("sprites"), max_sequence_length=0)  # which draws with its adapter merged
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        policy.predict(torch.rand(2, *policy.latent_shape), torch.rand(2), policy.blank_text(2), 1.0)
    assert cost(sprites, 1.0).forward_flops == pytest.approx(counter.get_total_flops() / 2, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"update": UpdateConfig(keep_share=0.5), "objective": VGRPO(ref_weight=1.0)},
        {"objective": DiffusionNFT(num_probes=3)},
        {"objective": MixGRPO(num_window_steps=2), "update": UpdateConfig(num_minibatches=2, num_epochs=2)},
    ],
    ids=["vgrpo", "best and worst", "diffusionnft", "mixgrpo"],
)
def test_evaluations_are_those_of_a_run(changes, tmp_path):
    config = tiny_config(tmp_path / "run", **changes)
    line = iterate(start_run(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)))
    images = config.rollout.num_prompts * config.rollout.group_size
    planned = measure_job(config).evaluations()
    assert planned["rollout"] == line["nfe/rollout"] * images
    assert planned["other weights"] == line["nfe/old"] * images
    assert planned["training"] == line["nfe/train"] * images


@pytest.fixture(scope="module")
def large():
    """As many images as the published jobs draw."""
    rollout = RolloutConfig(num_prompts=48, group_size=24, guidance=4.0)
    return measure_job(replace(RECIPES["sprites"], rollout=rollout, update=UpdateConfig()))


def total(job, config=None):
    return sum(job.memory(config or job.config).values())


def test_advice_makes_a_job_fit_with_no_option_too_many(large):
    assert advise(large, 1000 * GB).options == []
    limit = 0.7 * total(large)
    options, after, _, config = advise(large, limit)
    assert total(large, config) == after
    assert after <= limit
    assert options
    least, smallest, *_ = advise(large, 0.1 * GB)
    assert "--update.micro-batch-size 1" in least
    assert smallest > 0.1 * GB
    assert smallest < limit


def test_a_lag_keeps_two_more_copies(large):
    lagged = replace(large.config, rollout=replace(large.config.rollout, lag=1))
    part = "averages and copies"
    assert large.memory(lagged)[part] - large.memory(large.config)[part] == 2 * 4 * large.num_trained


def test_copies_in_the_cpus_memory_are_not_on_the_gpu(large):
    elsewhere = replace(large.config, memory=MemoryConfig(offload_copies=True))
    part = "averages and copies"
    assert large.memory(elsewhere)[part] == 0
    assert large.memory(large.config)[part] == 3 * 4 * large.num_trained  # the average, the untrained and one in passing


def test_more_gpus_share_the_images_and_not_the_model(large):
    shared = replace(large, num_gpus=5)
    assert shared.num_images == 10 * 24  # the largest share of 48 groups
    assert shared.flops() == pytest.approx(large.flops() * 10 / 48)
    for part in ("network", "trained weights, gradient, AdamW", "text encoders", "rewards"):
        assert shared.memory(large.config)[part] == large.memory(large.config)[part]
    assert total(shared) < total(large)
    assert traffic(large) == Traffic()
    assert traffic(shared) == Traffic(summed=4 * large.num_trained)


def test_time_is_that_of_arithmetic_and_of_memory_traffic(large):
    card = Card(24, 100, 1000)
    work = Work(8e13, 9e11) + Work(0.0, 0.0, 9e10)
    assert work.seconds(card, compiled=False) == pytest.approx(1 + 1 + 0.1)
    assert work.seconds(card, compiled=True) == pytest.approx(1 + 1 / 3 + 0.1)
    again = replace(large, config=replace(large.config, memory=MemoryConfig(gradient_checkpointing=True)))
    trained = large.evaluations()["training"]
    assert again.work().moved - large.work().moved == pytest.approx(large.plain.forward_moved * trained)
    assert large.work().kept == pytest.approx(large.decoding.moved * large.num_images)
    assert large.plain.drawn_moved < large.plain.forward_moved < large.plain.update_moved / 2
    longer = replace(large, config=replace(large.config, num_iterations=large.config.num_iterations + 1))
    assert longer.total_work().flops - large.total_work().flops == pytest.approx(large.work().flops)


def test_what_is_switched_on_takes_less_and_checkpointing_computes_more(large):
    def at(**memory):
        return replace(large.config, memory=MemoryConfig(**memory))

    saving = replace(large, config=at(gradient_checkpointing=True))
    assert saving.flops() > large.flops()
    assert saving.checkpointed_bytes < 0.5 * large.plain.update_bytes
    assert large.memory(at(offload_encoders=True))["text encoders"] == 0
    assert total(large, at(weights="fp32")) > total(large)
    can = replace(large, slices=True)  # the bundled model's cannot
    whole, sliced, not_sliced = (job.phases(at(vae_slicing=on), 2.0) for job, on in ((can, False), (can, True), (large, True)))
    assert sliced["decoding, 1 at once"] < 0.1 * whole["decoding, 1152 at once"]
    assert not_sliced["decoding, 1152 at once"] == whole["decoding, 1152 at once"]


def test_full_fine_tuning_takes_what_a_real_optimiser_keeps():
    job = measure_job(replace(RECIPES["sprites"], finetune="full", precision="fp32"))
    module = load_pipeline("sprites").transformer
    size = sum(parameter.numel() for parameter in module.parameters())
    assert job.num_trained == job.num_weights == size
    assert job.memory(job.config)["trained weights, gradient, AdamW"] == 16 * size


@pytest.mark.parametrize(
    ("reward", "gigabytes"),
    [
        (("pickscore", "hpsv2=folder"), 3.9 + 3.9),
        (("judge=judge.yaml", "remote=http://host:8100", "ocr", "my_rewards:warm"), 0.0),
    ],
)
def test_rewards_on_the_gpu_take_memory(large, reward, gigabytes):
    assert large.memory(replace(large.config, reward=reward))["rewards"] == pytest.approx(gigabytes * 1e9)


def test_rewards_on_another_gpu_take_none_of_this(large):
    rewards = {"reward": ("pickscore",), "device": "cuda:0"}
    there, here = (replace(large.config, reward_device=device, **rewards) for device in ("cuda:1", "cuda:0"))
    assert (large.memory(there)["rewards"], large.memory(here)["rewards"]) == (0.0, pytest.approx(3.9e9))


def test_every_learned_reward_states_its_size():
    elsewhere = {"judge", "unifiedreward", "remote", "ocr", "ocr_tesseract", "ocr_ctc"}  # a server's, or on the CPU
    elsewhere |= {"local_judge"}  # of whatever size its file names
    assert set(SIZES) == set(MODELS) - elsewhere
    table = Path(__file__).parents[2].joinpath("docs/rewards.md").read_text()
    for name, size in SIZES.items():
        line = next(line for line in table.splitlines() if f"`{name}`" in line and line.startswith("|"))
        assert size.download in line


def test_the_command(capsys):
    assert main(["plan", "sprites", "--gpu-memory", "24GB"]) == 0
    out = capsys.readouterr().out
    assert "192 images per iteration, " in out
    assert "fits into 24GB" in out
    assert "efficiency" not in out
    assert main(["plan", "sprites", "--gpus", "5", "--gpu-memory", "1GB", "--reward", "mine:warm"]) == 0
    out = capsys.readouterr().out
    assert "48 images per iteration on each GPU" in out  # 3 of 12 groups of 16
    assert re.search(r"0\.\d\d GB summed: at most \d\.\d s by nvlink4 in a machine, at 70%", out)
    assert "of 5 single GPUs, if nothing of that is hidden behind computing. Every GPU holds the whole model" in out
    assert "not counted, as it is your own: mine:warm" in out
    assert re.search(r"does not fit into 1GB.*which is the smallest GPU for it\. On 12 GPUs each would need", out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--gpu-memory much", "--gpu-memory much: give a number of gigabytes"),
        ("--tflops 0", "must be above 0"),
        ("--gpu 1080ti", "not in the table of 3090, 4090, l4"),
        ("--fit small", "--fit small: give a number of gigabytes"),
        ("--price -1", "must lie in 0 to 1,000,000"),
        ("--gpus two", "--gpus two: give a whole number"),
        ("--gpus 11 --nodes 3", "33 GPUs: an iteration draws rollout.num_prompts=12 groups"),
        ("--nodes 0", "--nodes 0: must be at least 1"),
        ("--network post", "--network post: must be one of infiniband, ethernet400"),
        ("--gpus 0", "must be at least 1"),
        ("--model sd35-tiny", "not a diffusers pipeline folder"),
    ],
)
def test_mistakes_are_named(capsys, options, message):
    assert main(["plan", "sprites", *options.split()]) in (1, 2)
    assert message in capsys.readouterr().err


def test_eight_bit_moments_take_less_memory(large):
    config = replace(large.config, update=replace(large.config.update, optimizer="adamw_8bit"))
    name = "trained weights, gradient, AdamW"
    assert large.memory(large.config)[name] == pytest.approx(16 * large.num_trained)
    assert large.memory(config)[name] == pytest.approx(10.03 * large.num_trained, rel=1e-3)


def test_a_card_by_name_has_its_memory_time_and_cost(capsys):
    assert main(["plan", "sprites", "--gpu", "RTX-4090", "--price", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "fits into 24GB" in out
    assert "on a RTX-4090, at 80% of its published 165 TFLOP/s and 90% of its 1,008 GB/s, an assumption" in out
    assert "in all at 0.5 for a GPU's hour" in out
    machine, work = Machine(gpu="h200", gpu_memory="20GB", tflops=10.0), Work(6e14, 1e12)
    assert (machine.memory, machine.seconds(work, compiled=False)) == ("20GB", 60)
    assert Machine().seconds(work, compiled=False) == 2
    assert card_of("NVIDIA H100 80GB HBM3") == CARDS["h100"]
    assert card_of("NVIDIA GeForce RTX 4090 Laptop GPU") is card_of("Tesla T4") is None


def test_fit_says_by_its_status_whether_a_job_fits(capsys):
    assert main(["plan", "sprites", "--fit", "24GB"]) == 0
    assert main(["plan", "sprites", "--fit", "0.5GB"]) == 1
    assert re.search(r"does not fit into 0\.5GB.* GB, which is the smallest GPU for it", capsys.readouterr().err)
