"""`vgrpo plan RECIPE`: what a job costs before anything is downloaded: network evaluations, memory by part, time."""

from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from vgrpo.analysis.plan.advice import advise
from vgrpo.analysis.plan.job import GB, Job, measure_job
from vgrpo.rewards.registry import is_own
from vgrpo.support.checks import require
from vgrpo.training.config import Config


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs that a job is planned for."""

    gpus: int | str = 1
    """How many."""
    gpu_memory: str = "80GB"
    """Memory of each, e.g. 24GB."""
    tflops: float | str = 300.0
    """bf16 throughput that each is assumed to reach, in TFLOP/s: a third to a half of its peak."""

    def __post_init__(self) -> None:
        require(
            self.bytes() > 0 and self.flops() > 0, f"--gpu-memory {self.gpu_memory}, --tflops {self.tflops}: must be above 0"
        )
        require(str(self.gpus).isdecimal(), f"--gpus {self.gpus}: give a whole number, e.g. 8")

    def bytes(self) -> float:
        return GB * _number("--gpu-memory", self.gpu_memory.removesuffix("GB"), "gigabytes, e.g. 24GB")

    def flops(self) -> float:
        """Per second."""
        return 1e12 * _number("--tflops", self.tflops, "TFLOP/s, e.g. 300")


def _number(option: str, value: float | str, what: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{option} {value}: give a number of {what}") from None


def plan(config: Config, machine: Machine, console: Console | None = None) -> Job:
    """Measure and print."""
    console = console or Console(highlight=False, soft_wrap=True)
    job = measure_job(config, int(machine.gpus))
    console.print(_memory_table(job))
    own = [name for name in dict.fromkeys((*config.reward, *config.monitor)) if is_own(name)]
    if own:
        console.print(f"not counted, as it is your own: {', '.join(own)}")
    each = " on each GPU" if job.num_gpus > 1 else ""
    counts = job.evaluations()
    console.print(
        f"{job.num_images} images per iteration{each}, {sum(counts.values()):,.0f} network evaluations: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in counts.items() if value)
    )
    seconds = job.flops() / machine.flops()
    on = f"{job.num_gpus} GPUs" if job.num_gpus > 1 else "one GPU"
    console.print(
        f"{job.flops() / 1e15:,.1f} PFLOP per iteration{each}: {seconds:,.0f} s at {machine.tflops} TFLOP/s, "
        f"{seconds * config.num_iterations / 3600:,.1f} h for {config.num_iterations} iterations on {on}; the network alone, "
        "without rewards and the evaluation"
    )
    if job.num_gpus > 1:
        console.print(
            f"{job.gradient_bytes() / GB:,.2f} GB of gradients to all-reduce per iteration, their time not counted. "
            "vgrpo train runs on one GPU; these figures are an estimate of data-parallel training."
        )
    console.print(verdict(job, machine))
    return job


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
