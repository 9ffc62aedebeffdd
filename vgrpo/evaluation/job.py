"""An evaluation of a model with and without a LoRA: in shards, going on where it was stopped."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vgrpo.core.images import stills, to_pil
from vgrpo.core.types import Prompt
from vgrpo.evaluation.behind import JudgedBatch, judge_batches
from vgrpo.evaluation.gallery import image_path, write_gallery
from vgrpo.evaluation.pictures import Picture, pictures_of
from vgrpo.evaluation.scores import ScoreFiles, Shard, digest
from vgrpo.evaluation.settings import EvalOptions
from vgrpo.evaluation.suites import find_suite, suite_prompts
from vgrpo.evaluation.summary import save, summarise
from vgrpo.models.defaults import defaults_of
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora_files import lora_file
from vgrpo.models.precision import check_device, device_of
from vgrpo.models.settings import ModelSettings
from vgrpo.models.sources import check_sources
from vgrpo.models.supported import check_model, edits_pictures
from vgrpo.rewards.base import Reward
from vgrpo.rewards.frames import show_to
from vgrpo.rewards.loading import Calling, check_calls, load_rewards
from vgrpo.rewards.panel import Panel
from vgrpo.support.checks import require
from vgrpo.support.files import refused
from vgrpo.support.folders import require_folder
from vgrpo.support.json_files import read_json
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.worlds.base import World
from vgrpo.worlds.registry import bundled_world, find_world, judge_of

NOT_OF_SCORES = ("num_prompts",)  # the prompts are named whole
Tracked = Callable[[Sequence[list[Picture]], str], Iterable[list[Picture]]]
"""Batches and what they are, to the same batches; it may show how far along they are."""


@dataclass(frozen=True, kw_only=True)
class EvalJob(ModelSettings):
    """Score a model on held-out prompts: eval.json, eval.html, images and every score."""

    output_dir: Path
    """Gets it all: the model as `base`, and with the LoRA as `tuned`. A stopped evaluation in it goes on."""
    suite: str | None = None
    """Rewards and prompts of a benchmark; the other options override them."""
    lora: Path | None = None
    """A run's lora/, or a LoRA of diffusers, peft or kohya: its folder or its .safetensors file."""
    prompts: str | None = "sprites"
    """`sprites` (its held-out prompts), `ocr` (the suite's own), a file, or your own world as my_file:MyWorld."""
    reward: tuple[str, ...] = ("sprites",)
    reward_device: str | None = None
    """Where reward models compute, such as cuda:1 or cpu; None is `device`."""
    reward_workers: int = 0
    """Processes that call rewards which compute on the CPU, such as `ocr`; 0 calls them in this one."""
    shard: str = "0/1"
    """Do one part of several, e.g. 0/4 to 3/4 on four GPUs; the last to finish merges them."""
    eval: EvalOptions = field(default_factory=EvalOptions)

    def __post_init__(self) -> None:
        self.check()
        if self.reward_device is not None:
            check_device(self.reward_device, "reward_device")
        check_calls(self.reward_workers)
        Shard.parse(self.shard)
        require(self.eval.num_prompts >= 1, f"--eval.num-prompts {self.eval.num_prompts}: must be at least 1")
        require(len(self.reward) >= 1, "--reward: name at least one")
        require(len(set(self.reward)) == len(self.reward), f"--reward {' '.join(self.reward)}: name each once")
        if self.suite is not None:
            find_suite(self.suite)

    @property
    def sampling(self) -> EvalOptions:
        """The settings, with the number of images that are drawn at once: by default 256 for the bundled model, else 16."""
        world = bundled_world(self.model)
        size = self.eval.batch_size or (world.eval_batch_size if world else World.eval_batch_size)
        return replace(self.eval, batch_size=size)

    @property
    def hard_pixels(self) -> bool:
        """Whether the pictures are pixel art."""
        found = find_world(self.prompts) if self.prompts else None
        return any(world is not None and world.hard_pixels for world in (bundled_world(self.model), found and found[0]))


def suite_job(name: str, **options: Any) -> EvalJob:
    """A suite's job; options override what it says."""
    suite = find_suite(name)
    settings = {"suite": name, "prompts": suite.prompts, "reward": suite.reward}
    return EvalJob(**(settings | {"eval": EvalOptions(num_prompts=suite.num_prompts)} | options))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call has come to. Another shard may have to do its part first."""

    num_scored: dict[str, int]
    """Images of `base` and perhaps `tuned` that all shards have scored so far."""
    num_images: int
    content: dict[str, Any] | None = None
    """eval.json's, once all shards are done."""
    page: Path | None = None
    """eval.html, likewise."""


def _untracked(batches: Sequence[list[Picture]], what: str) -> Iterable[list[Picture]]:
    return batches


@out_of_memory_while("drawing and judging images")
@torch.no_grad()
def evaluate_model(job: EvalJob, track: Tracked = _untracked) -> Outcome:
    """Evaluate the base model and, with a LoRA, the tuned one on the same noise; merge if all is there."""
    require_folder(job.output_dir, "--output-dir")
    shard, settings = Shard.parse(job.shard), job.sampling
    sources = edits_pictures(job.model, job.adapter)
    prompts = suite_prompts(job.suite, job.prompts, job.eval.num_prompts, sources=sources)
    world = judge_of(prompts, job.reward, [job.prompts])
    pictures, size = pictures_of(prompts, settings.num_images), settings.batch_size or len(prompts)
    loras: dict[str, Path | None] = {"base": None} | ({"tuned": job.lora} if job.lora else {})
    files, pending = {}, {}
    for part, lora in loras.items():
        files[part] = ScoreFiles(job.output_dir, part, list(job.reward), strict=world is not None)
        files[part].claim(_claim(job, prompts, lora))
        pending[part] = files[part].pending(pictures, size, shard)
    work = _Work(job, prompts, Panel.of(_rewards(job) if any(pending.values()) else []), world)
    with closing(work.panel):
        for part, batches in pending.items():
            if batches:
                _score_part(work, loras[part], track(batches, f"{part}, batches"), files[part])
    with _disk_explained(job, files):
        return _merge(job, pictures, files)


def _rewards(job: EvalJob) -> list[Reward]:
    """Loaded once it is known that the model could be."""
    device_of(job.device)
    check_model(job.model, job.adapter)
    how = Calling(device=job.reward_device or job.device, offload=job.memory.offload_rewards, num_workers=job.reward_workers)
    return load_rewards(job.reward, how)


@contextmanager
def _disk_explained(job: EvalJob, files: dict[str, ScoreFiles]) -> Iterator[None]:
    """Raise OSError that says what is saved and how to go on, where the disk refuses a file."""
    try:
        yield
    except OSError as error:
        counts = ", ".join(f"{len(file.read())} of {part}" for part, file in files.items())
        state = f"The scores so far, {counts}, are in {job.output_dir / 'scores'} and stay."
        raise OSError(refused(error, job.output_dir, state, "give the same command again: it goes on there")) from error


class _Work(NamedTuple):
    job: EvalJob
    prompts: list[Prompt]
    panel: Panel
    world: World | None


def _score_part(work: _Work, lora: Path | None, batches: Iterable[list[Picture]], files: ScoreFiles) -> None:
    """Draw and score a shard's batches of one model. While one is drawn, the one before is judged and saved."""
    job = work.job
    policy = load_policy(job, lora=lora)
    show_to(work.panel.rewards, policy)
    settings = job.sampling.resolved(defaults_of(policy))
    check_sources(policy, work.prompts)
    if lora is None:
        warn_of_cut_off(policy, work.prompts)
    with _disk_explained(job, {files.name: files}):
        files.begin()
        (job.output_dir / "images" / files.name).mkdir(parents=True, exist_ok=True)
    saving = list[Future[None]]()
    with ThreadPoolExecutor(1) as saver:
        for batch in judge_batches(policy, batches, work.panel, settings, work.world):
            _wait_for(saving, job, files)
            saving = [saver.submit(_save, job, batch, files)]
        _wait_for(saving, job, files)


def _wait_for(saving: list[Future[None]], job: EvalJob, files: ScoreFiles) -> None:
    with _disk_explained(job, {files.name: files}):
        for each in saving:
            each.result()


def _save(job: EvalJob, batch: JudgedBatch, files: ScoreFiles) -> None:
    """Images first: a score is there only if its image is."""
    paths = [image_path(job.output_dir, files.name, picture) for picture in batch.pictures]
    with ThreadPoolExecutor() as writers:  # PNGs are compressed beside each other
        list(writers.map(lambda image, path: to_pil(image).save(path), stills(batch.images), paths))
    files.write(Shard.parse(job.shard), batch.pictures, batch.judged)


def _merge(job: EvalJob, pictures: list[Picture], files: dict[str, ScoreFiles]) -> Outcome:
    """Write eval.json and eval.html if every shard is done."""
    parts = {part: judged for part, file in files.items() if (judged := file.judged(pictures)) is not None}
    num_scored = {part: len(file.read()) for part, file in files.items()}
    if len(parts) < len(files):
        return Outcome(num_scored=num_scored, num_images=len(pictures))
    content = summarise(parts, pictures, list(job.reward))
    save(job.output_dir, content)
    settings = read_json(job.output_dir / "scores" / f"{list(files)[-1]}.json")
    page = write_gallery(job.output_dir, content, parts, pictures, settings, hard_pixels=job.hard_pixels)
    return Outcome(num_scored=num_scored, num_images=len(pictures), content=content, page=page)


def _claim(job: EvalJob, prompts: list[Prompt], lora: Path | None) -> dict[str, Any]:
    """What the scores are of; scores of anything else do not belong into the same files."""
    texts = json.dumps([(prompt.text, prompt.metadata) for prompt in prompts], default=str)
    return {
        "suite": job.suite,
        "model": job.model,
        "lora": None if lora is None else f"{lora.resolve()} ({digest(lora_file(lora, '--lora').read_bytes())})",
        "prompts": f"{Path(str(job.prompts)).name} ({len(prompts)}, {digest(texts.encode())})",
        "reward": list(job.reward),
        "max_sequence_length": job.max_sequence_length,
        "resolution": job.resolution,
        "num_frames": job.num_frames,
        "precision": job.precision,
        "weights": job.memory.weights,
    } | {name: value for name, value in dataclasses.asdict(job.sampling).items() if name not in NOT_OF_SCORES}
