"""`vgrpo plan RECIPE`: what a job costs before anything is downloaded: network evaluations, memory by part, time."""

from dataclasses import dataclass, replace

from rich.table import Table

from vgrpo.analysis.plan.advice import advise
from vgrpo.analysis.plan.cards import ARITHMETIC, BANDWIDTH, CARDS, Card, card_of
from vgrpo.analysis.plan.job import GB, Job, measure_job
from vgrpo.analysis.plan.links import BETWEEN, INSIDE, link_of, named
from vgrpo.analysis.plan.links import SHARE as LINK_SHARE
from vgrpo.analysis.plan.traffic import seconds, traffic
from vgrpo.analysis.plan.work import Work
from vgrpo.commands.fit import read_size
from vgrpo.commands.job import parse_job
from vgrpo.commands.options import parse, take_option
from vgrpo.commands.screen import Screen
from vgrpo.commands.words import options_of
from vgrpo.models.published import PUBLISHED
from vgrpo.models.quantised import is_quantised
from vgrpo.rewards.registry import is_own
from vgrpo.support.checks import require, require_finite, require_within
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum, Stage

DESCRIPTION = (
    "Memory by part, network evaluations and time of a job, from configs alone. Options are those of vgrpo train, and "
    f"--gpu 4090 (or {', '.join(CARDS)}), --gpus 8 and --nodes 2 (GPUs of a machine, machines), --link {'|'.join(INSIDE)}, "
    f"--network {'|'.join(BETWEEN)} (or GB/s that each GPU sends), --gpu-memory 24GB, "
    "--tflops 300 (throughput to reckon with), --price 0.5 (of a GPU for an hour). --fit 24GB "
    "prints the options with which the job fits, or ends with status 1. --model also takes "
    f"published models by name: {', '.join(PUBLISHED)}."
)
PROG = "vgrpo plan [RECIPE | run.yaml]"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs that a job is planned for."""

    gpu: str | None = None
    """Which, by name; its memory and throughput are those of the two options below where they are left out."""
    gpus: int = 1
    """How many on each machine."""
    nodes: int = 1
    """Machines."""
    link: str = "nvlink4"
    """Between the GPUs of a machine: a name, or GB/s that each sends."""
    network: str = "infiniband"
    """Between machines: a name, or GB/s that each GPU sends."""
    gpu_memory: str | None = None
    """Memory of each, e.g. 24GB; None is that of --gpu, or 80GB."""
    tflops: float | None = None
    """bf16 throughput that each is assumed to reach, in TFLOP/s; None reckons with --gpu's arithmetic and bandwidth, or 300."""
    price: float | None = None
    """Of one GPU for an hour, in any currency."""
    fit: str | None = None
    """Memory that the job must fit into; prints the options that make it fit, and ends with status 1 if none do."""

    def __post_init__(self) -> None:
        require_finite(self)
        for option, count in (("--gpus", self.gpus), ("--nodes", self.nodes)):
            require(count >= 1, f"{option} {count}: must be at least 1")
        for option, name, known in (("--link", self.link, INSIDE), ("--network", self.network, BETWEEN)):
            link_of(option, name, known)
        require(
            self.gpu is None or self.card is not None,
            f"--gpu {self.gpu}: not in the table of {', '.join(CARDS)}; give its --gpu-memory and --tflops instead",
        )
        for option, value in (("--gpu-memory", self.gpu_memory), ("--fit", self.fit)):
            if value is not None:
                read_size(option, value)
        require(self.tflops is None or self.tflops > 0, f"--tflops {self.tflops}: must be above 0")
        require_within(self, "--", price=(0, 1e6))

    @property
    def card(self) -> Card | None:
        return None if self.gpu is None else card_of(self.gpu)

    @property
    def memory(self) -> str:
        """As it is written."""
        known = self.fit or self.gpu_memory
        return known or (f"{self.card.gigabytes}GB" if self.card else "80GB")

    def bytes(self) -> float:
        return read_size("--gpu-memory", self.memory)

    def seconds(self, work: Work, *, compiled: bool) -> float:
        if self.card is None or self.tflops is not None:
            return work.flops / (self.tflops or 300.0) / 1e12
        return work.seconds(self.card, compiled=compiled)

    def speed(self) -> str:
        """What its time is reckoned with."""
        if self.card is None or self.tflops is not None:
            return f"at {self.tflops or 300.0:g} TFLOP/s"
        return (
            f"on a {self.gpu}, at {ARITHMETIC:.0%} of its published {self.card.tflops:g} TFLOP/s and {BANDWIDTH:.0%} of its "
            f"{self.card.bandwidth:,g} GB/s, an assumption"
        )


def run(words: list[str]) -> None:
    chosen = []
    for option in options_of(Machine):
        words, value = take_option(words, option.name)
        chosen += [] if value is None else [f"{option.name}={value}"]
    machine = parse(Machine, chosen, prog=PROG, description=DESCRIPTION)
    job = parse_job(words, prog=PROG, description=DESCRIPTION)
    stages = job.stages if isinstance(job, Curriculum) else [Stage("", job)]
    failed = []
    for number, stage in enumerate(stages, 1):
        if stage.name:
            print(f"stage {number}: {stage.name}")
        planned = plan(stage.config, machine)
        if machine.fit is not None and advise(planned, machine.bytes()).total > machine.bytes():
            failed.append(verdict(planned, machine))
    if failed:
        raise ValueError(failed[0])


def plan(config: Config, machine: Machine) -> Job:
    """Measure and print."""
    screen = Screen()
    job = measure_job(config, machine.gpus * machine.nodes, machine.nodes)
    screen.print(_memory_table(job))
    for line in (*costs(job, machine), verdict(job, machine)):
        screen.print(line)
    return job


def costs(job: Job, machine: Machine) -> list[str]:
    """What an iteration and the whole job take, in sentences."""
    config, counts = job.config, job.evaluations()
    each = " on each GPU" if job.num_gpus > 1 else ""
    on = f"{job.num_gpus} GPUs" if job.num_gpus > 1 else "one GPU"
    compiled = config.compile
    seconds, hours = machine.seconds(job.work(), compiled=compiled), machine.seconds(job.total_work(), compiled=compiled) / 3600
    lines = [
        f"{job.num_images} images per iteration{each}, {sum(counts.values()):,.0f} network evaluations: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in counts.items() if value),
        f"{job.work().flops / 1e15:,.1f} PFLOP per iteration{each}: {seconds:,.0f} s {machine.speed()}; "
        f"{hours:,.1f} h for {config.num_iterations} iterations and {job.num_held_out} evaluations on {on}, "
        "without what rewards take",
        evaluation(job, machine),
    ]
    if machine.price is not None:
        cost = hours * machine.price * job.num_gpus
        lines.append(f"{cost:,.2f} in all at {machine.price:g} for a GPU's hour")
    own = [name for name in dict.fromkeys(config.reward_names) if is_own(name)]
    if own:
        lines.insert(0, f"not counted, as it is your own: {', '.join(own)}")
    return lines if job.num_gpus == 1 else [*lines, *talk(job, machine)]


def talk(job: Job, machine: Machine) -> list[str]:
    """What the GPUs tell each other, and what is left of their number."""
    config, found = job.config, traffic(job)
    inside, between = link_of("--link", machine.link, INSIDE), link_of("--network", machine.network, BETWEEN)
    sent = seconds(job, inside, between)
    compiled = config.compile
    alone, computed = (machine.seconds(one.work(), compiled=compiled) for one in (replace(job, num_gpus=1, num_nodes=1), job))
    efficiency = alone / job.num_gpus / (computed + sent)
    parts = {"of weights gathered": found.gathered, "of gradients scattered": found.scattered, "summed": found.summed}
    moved = ", ".join(f"{value / GB:,.2f} GB {name}" for name, value in parts.items() if value)
    links = f"{named(machine.link, inside)} in a machine"
    links += f" and {named(machine.network, between)} between them" if job.num_nodes > 1 else ""
    by_name = machine.link in INSIDE or (job.num_nodes > 1 and machine.network in BETWEEN)
    assumed = f", at {LINK_SHARE:.0%} of what is published of a link with a name, an assumption" if by_name else ""
    sharers = job.sharers(config)
    holds = "every GPU holds the whole model" if sharers == 1 else f"{sharers} GPUs share a copy of the weights"
    return [
        f"per iteration {moved}: at most {sent:,.1f} s by {links}{assumed}",
        f"efficiency at least {efficiency:.0%} of {job.num_gpus} single GPUs, if nothing of that is hidden behind computing. "
        f"{holds[0].upper()}{holds[1:]}",
    ]


def evaluation(job: Job, machine: Machine) -> str:
    """What comes before the first iteration."""
    settings = job.config.eval
    minutes = machine.seconds(job.evaluation_work(), compiled=job.config.compile) / 60
    return (
        f"before the first iteration, and again after the last: {settings.num_prompts * settings.num_images:,} held-out images "
        f"in at most {minutes:,.1f} min"
    )


def _memory_table(job: Job) -> Table:
    _, height, width = job.decoding.image
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
    advice = advise(job, machine.bytes())
    options, total = advice.options, advice.total
    if not options and total <= machine.bytes():
        return f"fits into {machine.memory}"
    begin = f"does not fit into {machine.memory}"
    joined = " ".join(options)
    if total <= machine.bytes():
        return f"{begin}; with {joined} it takes {total / GB:.1f} GB ({advice.note()})"
    text = f"{begin}: with {joined} it still takes" if options else f"{begin}, and no option helps: it takes"
    text += f" {total / GB:.1f} GB, which is the smallest GPU for it. "
    text += on_many(job, machine)
    if job.config.finetune == "full":
        lora = measure_job(replace(job.config, finetune="lora"), job.num_gpus)
        text += f" An adapter, --finetune lora, could be trained in {advise(lora, 0.0).total / GB:.1f} GB."
    return text


def on_many(job: Job, machine: Machine) -> str:
    """What each of as many GPUs would need as there can be."""
    config = job.config
    many = replace(job, num_gpus=config.rollout.num_prompts, num_nodes=1)
    weights = "auto" if is_quantised(config.memory.weights) else config.memory.weights
    shared = replace(many, config=replace(config, memory=replace(config.memory, shard="full", gather=False, weights=weights)))
    whole, part = (advise(each, machine.bytes()).total / GB for each in (many, shared))
    return (
        f"On {many.num_gpus} GPUs each would need {whole:.1f} GB with the whole model, and {part:.1f} GB with a share of its "
        "weights (--memory.shard full --memory.no-gather)."
    )
