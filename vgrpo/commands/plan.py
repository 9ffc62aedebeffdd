"""`vgrpo plan RECIPE`: what a job costs before anything is downloaded: network evaluations, memory by part, time."""

import re
from dataclasses import dataclass, replace

from rich.table import Table

from vgrpo.analysis.plan.advice import advise
from vgrpo.analysis.plan.job import GB, Job, measure_job
from vgrpo.commands.job import parse_job
from vgrpo.commands.options import parse, take_option
from vgrpo.commands.screen import Screen
from vgrpo.commands.words import options_of
from vgrpo.models.published import PUBLISHED
from vgrpo.rewards.registry import is_own
from vgrpo.support.checks import require, require_finite
from vgrpo.training.config import Config
from vgrpo.training.stages import Curriculum

DESCRIPTION = (
    "Memory by part, network evaluations and time of a job, from configs alone. Options are those of vgrpo train, and "
    "--gpus 1, --gpu-memory 24GB, --tflops 300 (throughput to reckon with). --model also takes published models by name: "
    f"{', '.join(PUBLISHED)}."
)
PROG = "vgrpo plan [RECIPE | run.yaml]"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs that a job is planned for."""

    gpus: int = 1
    """How many."""
    gpu_memory: str = "80GB"
    """Memory of each, e.g. 24GB."""
    tflops: float = 300.0
    """bf16 throughput that each is assumed to reach, in TFLOP/s: a third to a half of its peak."""

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.gpus >= 1, f"--gpus {self.gpus}: must be at least 1")
        require(
            re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?(GB)?", self.gpu_memory) is not None,
            f"--gpu-memory {self.gpu_memory}: give a number of gigabytes, e.g. 24GB",
        )
        require(self.bytes() > 0, f"--gpu-memory {self.gpu_memory}: must be above 0")
        require(self.tflops > 0, f"--tflops {self.tflops}: must be above 0")

    def bytes(self) -> float:
        return GB * float(self.gpu_memory.removesuffix("GB"))

    def flops(self) -> float:
        """Per second."""
        return 1e12 * self.tflops


def run(words: list[str]) -> None:
    chosen = []
    for option in options_of(Machine):
        words, value = take_option(words, option.name)
        chosen += [] if value is None else [f"{option.name}={value}"]
    machine = parse(Machine, chosen, prog=PROG, description=DESCRIPTION)
    job = parse_job(words, prog=PROG, description=DESCRIPTION)
    if not isinstance(job, Curriculum):
        plan(job, machine)
        return
    for number, stage in enumerate(job.stages, 1):
        print(f"stage {number}: {stage.name}")
        plan(stage.config, machine)


def plan(config: Config, machine: Machine) -> Job:
    """Measure and print."""
    screen = Screen()
    job = measure_job(config, machine.gpus)
    screen.print(_memory_table(job))
    for line in (*costs(job, machine), verdict(job, machine)):
        screen.print(line)
    return job


def costs(job: Job, machine: Machine) -> list[str]:
    """What an iteration and the whole job take, in sentences."""
    config, counts = job.config, job.evaluations()
    each = " on each GPU" if job.num_gpus > 1 else ""
    on = f"{job.num_gpus} GPUs" if job.num_gpus > 1 else "one GPU"
    seconds = job.flops() / machine.flops()
    lines = [
        f"{job.num_images} images per iteration{each}, {sum(counts.values()):,.0f} network evaluations: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in counts.items() if value),
        f"{job.flops() / 1e15:,.1f} PFLOP per iteration{each}: {seconds:,.0f} s at {machine.tflops} TFLOP/s, "
        f"{seconds * config.num_iterations / 3600:,.1f} h for {config.num_iterations} iterations on {on}; the network alone, "
        "without rewards and the evaluation",
    ]
    own = [name for name in dict.fromkeys((*config.reward, *config.monitor)) if is_own(name)]
    if own:
        lines.insert(0, f"not counted, as it is your own: {', '.join(own)}")
    if job.num_gpus > 1:
        lines.append(
            f"{job.gradient_bytes() / GB:,.2f} GB of gradients to all-reduce per iteration, their time not counted. "
            "vgrpo train runs on one GPU; these figures are an estimate of data-parallel training."
        )
    return lines


def _memory_table(job: Job) -> Table:
    _, height, width = job.image
    parts = job.memory(job.config)
    title = f"{job.config.model}, {width} x {height} pixels, {job.config.finetune}: memory"
    table = Table(title=title + (" of each GPU" if job.num_gpus > 1 else ""))
    table.add_column("part")
    table.add_column("GB", justify="right")
    for name, value in parts.items():
        table.add_row(name, f"{value / GB:.1f}")
    table.add_section()
    table.add_row("in all", f"{sum(parts.values()) / GB:.1f}", style="bold")
    return table


def verdict(job: Job, machine: Machine) -> str:
    """Whether the job fits, what makes it fit, or the smallest GPU that it fits into."""
    options, total = advise(job, machine.bytes())
    if not options and total <= machine.bytes():
        return f"fits into {machine.gpu_memory}"
    begin = f"does not fit into {machine.gpu_memory}"
    joined = " ".join(options)
    if total <= machine.bytes():
        return f"{begin}; with {joined} it takes {total / GB:.1f} GB"
    _, spread = advise(replace(job, num_gpus=job.config.rollout.num_prompts), machine.bytes())
    text = f"{begin}: with {joined} it still takes" if options else f"{begin}, and no option helps: it takes"
    text += f" {total / GB:.1f} GB, which is the smallest GPU for it. "
    text += (
        f"Every GPU holds the whole model: spread over {job.config.rollout.num_prompts} each would need {spread / GB:.1f} GB."
    )
    if job.config.finetune == "full":
        lora = measure_job(replace(job.config, finetune="lora"), job.num_gpus)
        text += f" An adapter, --finetune lora, could be trained in {advise(lora, 0.0)[1] / GB:.1f} GB."
    return text
