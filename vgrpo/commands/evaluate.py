"""`vgrpo eval`: draw, score and compare a model with and without a LoRA, in shards, going on where it was stopped."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from vgrpo.commands.tables import results_table
from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.evaluation.core import BATCH_SIZE, Job, draw, image_jobs, knows_sprites, score
from vgrpo.evaluation.gallery import image_path, write_gallery
from vgrpo.evaluation.scores import ScoreFiles, Shard, digest
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.evaluation.suites import SuiteName, find_suite, suite_prompts
from vgrpo.evaluation.summary import intervals_table, save, summarise
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora_files import lora_file
from vgrpo.models.settings import ModelSettings
from vgrpo.rewards.registry import Reward, load_reward
from vgrpo.support.checks import require
from vgrpo.support.memory_errors import out_of_memory_while

NOT_OF_SCORES = ("num_prompts", "sample_every", "num_sample_prompts")  # the prompts are named whole, samples are training's


@dataclass(frozen=True, kw_only=True)
class EvalJob(ModelSettings):
    """Score a model on held-out prompts: eval.json, eval.html, images and every score."""

    output_dir: Path
    """Gets it all: the model as `base`, and with the LoRA as `tuned`. A stopped evaluation in it goes on."""
    suite: SuiteName | None = None
    """Rewards and prompts of a benchmark; the other options override them."""
    lora: Path | None = None
    prompts: str | None = "sprites"
    """`sprites` (its held-out prompts), `ocr` (the suite's own), or a file."""
    reward: tuple[str, ...] = ("sprites",)
    reward_device: str | None = None
    """Where reward models compute, such as cuda:1 or cpu; None is `device`."""
    shard: str = "0/1"
    """Do one part of several, e.g. 0/4 to 3/4 on four GPUs; the last to finish merges them."""
    batch_size: int | None = None
    """Images drawn at once; None is 256 for sprites, else 16."""
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        require(self.eval.num_prompts >= 1, f"--eval.num-prompts {self.eval.num_prompts}: must be at least 1")
        require(self.eval.num_images >= 1, f"--eval.num-images {self.eval.num_images}: must be at least 1")
        require(self.batch_size is None or self.batch_size >= 1, f"--batch-size {self.batch_size}: must be at least 1")
        require(len(self.reward) >= 1, "--reward: name at least one")
        require(len(set(self.reward)) == len(self.reward), f"--reward {' '.join(self.reward)}: name each once")


def suite_job(name: str, **options: Any) -> EvalJob:
    """A suite's job; options override what it says."""
    suite = find_suite(name)
    settings = {"suite": name, "prompts": suite.prompts, "reward": suite.reward}
    return EvalJob(**(settings | {"eval": EvalConfig(num_prompts=suite.num_prompts)} | options))


@out_of_memory_while("drawing and judging images")
@torch.no_grad()
def evaluate_model(job: EvalJob) -> None:
    """Evaluate the base model and, with a LoRA, the tuned one on the same noise; merge if all is there."""
    shard = Shard.parse(job.shard)
    prompts = suite_prompts(job.suite, job.prompts, job.eval.num_prompts)
    jobs, size = image_jobs(prompts, job.eval.num_images), job.batch_size or (BATCH_SIZE if job.model == "sprites" else 16)
    files, loras, pending = {}, {"base": None} | ({"tuned": job.lora} if job.lora else {}), {}
    for part, lora in loras.items():
        files[part] = ScoreFiles(job.output_dir, part, list(job.reward))
        files[part].claim(_settings(job, prompts, size, lora))
        pending[part] = files[part].pending(jobs, size, shard)
    rewards = [load_reward(name, job.reward_device or job.device) for name in job.reward] if any(pending.values()) else []
    for part, batches in pending.items():
        if batches:
            _score_part(job, part, batches, rewards, prompts, files[part])
    _finish(job, jobs, files)


def _score_part(
    job: EvalJob, part: str, batches: list[list[Job]], rewards: list[Reward], prompts: list[Prompt], files: ScoreFiles
) -> None:
    """Draw and score a shard's batches of one model. Images are saved first: a score is there only if its image is."""
    lora = job.lora if part == "tuned" else None
    policy = load_policy(job, lora=lora)
    if lora is None:
        warn_of_cut_off(policy, prompts)
    (job.output_dir / "images" / part).mkdir(parents=True, exist_ok=True)
    for batch in track(batches, description=f"{part}, batches"):
        for one in batch:
            policy.encode([one.prompt.text])  # alone, as the last bits depend on what it is encoded with
        images = draw(policy, batch, job.eval)
        values, strict = score(images, batch, rewards, knows_sprites(prompts))
        for one, image in zip(batch, images, strict=True):
            to_pil(image).save(image_path(job.output_dir, part, one))
        files.write(Shard.parse(job.shard), batch, values, strict)


def _finish(job: EvalJob, jobs: list[Job], files: dict[str, ScoreFiles]) -> None:
    """eval.json, eval.html and the tables if every shard is done, else what is missing."""
    console = Console()
    scores = {part: found for part, file in files.items() if (found := file.tensors(jobs)) is not None}
    if len(scores) < len(files):
        there = ", ".join(f"{part} {len(file.read())} of {len(jobs)}" for part, file in files.items())
        console.print(f"shard {job.shard} is done; images scored by all shards so far: {there}")
        return
    content = summarise(scores, jobs, list(job.reward))
    save(job.output_dir, content)
    settings = json.loads((job.output_dir / "scores" / f"{list(files)[-1]}.json").read_text())
    page = write_gallery(job.output_dir, content, scores, jobs, settings)
    console.print(results_table(content), intervals_table(content), sep="\n")
    console.print(f"scores and pictures in {page}")


def _settings(job: EvalJob, prompts: list[Prompt], batch_size: int, lora: Path | None) -> dict[str, Any]:
    """What the scores are of; scores of anything else do not belong into the same files."""
    texts = json.dumps([dataclasses.astuple(prompt) for prompt in prompts], default=str)
    return {
        "suite": job.suite,
        "model": job.model,
        "lora": None if lora is None else f"{lora.resolve()} ({digest(lora_file(lora, '--lora').read_bytes())})",
        "prompts": f"{Path(str(job.prompts)).name} ({len(prompts)}, {digest(texts.encode())})",
        "reward": list(job.reward),
        "batch_size": batch_size,
        "max_sequence_length": job.max_sequence_length,
        "resolution": job.resolution,
        "num_frames": job.num_frames,
        "precision": job.precision,
        "weights": job.memory.weights,
    } | {name: value for name, value in dataclasses.asdict(job.eval).items() if name not in NOT_OF_SCORES}
