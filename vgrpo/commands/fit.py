"""`--fit 24GB` of `vgrpo train`: the settings with which a job fits, by the same count as `vgrpo plan`."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from huggingface_hub.constants import HF_HOME

from vgrpo.analysis.machine import GB, gpus
from vgrpo.analysis.plan.advice import advise_stages
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import load_yaml
from vgrpo.training.settings.stages import Curriculum

TEXTS = Path(HF_HOME) / "vgrpo" / "encoded-prompts"
MOST_TEXTS = 4 * GB
SIZE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?(GB)?")


def read_size(option: str, text: str) -> float:
    """Bytes. Raises ValueError for what is no number of gigabytes."""
    if SIZE.fullmatch(text) is None or not float(text.removesuffix("GB")):
        raise ValueError(f"{option} {text}: give a number of gigabytes above 0, e.g. 24GB")
    return GB * float(text.removesuffix("GB"))


def fitted(job: Config | Curriculum, fit: str, *, resume: bool, say: Callable[[str], None]) -> Config | Curriculum:
    """The job as it fits into so much memory; of a run that goes on, as it began. Tells what was chosen, as one can type it.

    Raises ValueError if it does not fit, with the least memory that would do.
    """
    saved = None if job.output_dir is None else job.output_dir / "config.yaml"
    if resume and saved is not None and saved.is_file():
        say(f"--fit {fit}: the run goes on with the settings in {saved}")
        return as_before(job, saved)
    limit = _free(job) if fit == "auto" else read_size("--fit", fit)
    chosen, found = advise_stages(job, limit)
    for number, advice in enumerate(found, 1):
        stage = f"stage {number}: " if isinstance(job, Curriculum) else ""
        if advice.total > limit:
            raise ValueError(
                f"{stage}--fit {fit}: the job does not fit into {limit / GB:.1f} GB; {advice.total / GB:.1f} GB would do, with "
                f"{' '.join(advice.options)}. A smaller --resolution, --lora.rank or number of images takes less"
            )
        choice = f"with {' '.join(advice.options)}; {advice.note()}" if advice.options else "as it is"
        say(f"{stage}--fit {fit}: {advice.total / GB:.1f} GB by the plan, {choice}")
    return _texts_first(chosen, found[0].texts, say) if isinstance(chosen, Config) else chosen


def _texts_first(config: Config, size: float, say: Callable[[str], None]) -> Config:
    """Where text encoders would wait in the CPU's memory, all texts are encoded first, if a disk need not hold much of them."""
    memory = config.memory
    if not memory.offload_encoders or memory.prompt_cache is not None or config.finetune == "full" or size > MOST_TEXTS:
        return config
    say(
        f"--fit encodes all prompts first, with --memory.prompt-cache {TEXTS}: at most {size / GB:.1f} GB of disk, and the "
        "text encoders then leave the CPU's memory"
    )
    return replace(config, memory=replace(memory, prompt_cache=TEXTS))


def _free(job: Config | Curriculum) -> float:
    """Bytes that are free on the GPU that the job names, or the first."""
    config = job.stages[0].config if isinstance(job, Curriculum) else job
    cards, index = gpus(), int(config.device.partition(":")[2] or 0)
    if config.device == "cpu" or index >= len(cards):
        raise ValueError("--fit auto: there is no such GPU here to ask what is free; give its memory, as --fit 24GB")
    return cards[index].free


def as_before(job: Config | Curriculum, saved: Path) -> Config | Curriculum:
    """The job with what `--fit` chooses as the run has it. Raises ValueError if the file holds another kind of job."""
    past = load_yaml(saved)
    if isinstance(job, Curriculum) and isinstance(past, Curriculum) and len(job.stages) == len(past.stages):
        pairs = zip(job.stages, past.stages, strict=True)
        return replace(job, stages=tuple(replace(now, config=_as_before(now.config, old.config)) for now, old in pairs))
    if isinstance(job, Config) and isinstance(past, Config):
        return _as_before(job, past)
    raise ValueError(f"--resume: {saved} holds another job; name it as it was begun")


def _as_before(now: Config, old: Config) -> Config:
    return replace(
        now,
        memory=old.memory,
        reward_device=old.reward_device,
        rollout=replace(now.rollout, batch_size=old.rollout.batch_size),
        update=replace(now.update, micro_batch_size=old.update.micro_batch_size, optimizer=old.update.optimizer),
    )
