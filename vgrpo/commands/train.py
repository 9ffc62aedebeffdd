"""`vgrpo train`: fine-tune a model on a reward."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from vgrpo.commands.beside import PageBeside
from vgrpo.commands.console import RunConsole
from vgrpo.commands.elsewhere import take_elsewhere, working_for
from vgrpo.commands.fit import fitted
from vgrpo.commands.job import parse_job
from vgrpo.commands.json_lines import JsonLines
from vgrpo.commands.launch import launch, number_of_processes
from vgrpo.commands.options import asks_for_help, take_flag, take_option
from vgrpo.commands.screen import Screen
from vgrpo.commands.words import UsageError
from vgrpo.core.processes import Processes
from vgrpo.models.quiet import hide_download_bars
from vgrpo.support.launched import launched
from vgrpo.training import loop
from vgrpo.training.checkpoints.resume import newest_run
from vgrpo.training.curriculum import curriculum as stages
from vgrpo.training.processes.joining import joined, said_once
from vgrpo.training.record.events import Listener
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum
from vgrpo.workbench.report import ReportFile

DESCRIPTION = (
    "Fine-tune a model on a reward. Settings: a recipe's (docs/recipes.md lists them) or a config.yaml's, then these "
    "options. --task-NAME.prompts FILE --task-NAME.reward REWARD adds a task with prompts and rewards of its own "
    "(docs/prompts.md). --objective NAME chooses the algorithm (vgrpo; docs/objectives.md lists the others), whose settings "
    "are then --objective.X. --resume goes on with the run in --output-dir, or begins it; --resume auto takes the newest "
    "unfinished run under runs/. --allow-changes lets a resumed run have other settings. --fit 24GB, or --fit auto for what "
    "the GPU has free, chooses settings with which the job fits there (docs/models.md). --gpus N trains with N processes, "
    "one for each GPU, and --gpus auto with all GPUs, or the CPU's cores (docs/scale.md). --rollout-workers "
    "http://HOST:8200 ..., or @FILE with one a line, has the images drawn by `vgrpo serve-rollout` (docs/scale.md), and "
    "--ray starts --ray-workers N of these by a Ray on this machine, or --ray ADDRESS by a cluster's, with --ray-rewards N "
    "also N servers of "
    "each reward. --ui opens the workbench's page while the run goes on (docs/workbench.md). --quiet prints errors alone; "
    "--json prints one JSON object a line for every event (docs/watching.md)."
)


def run(words: list[str]) -> int:
    """Train in this process, or in several that it starts; returns the status of those, or 0."""
    words, gpus = take_option(words, "--gpus")
    if gpus is not None and not asks_for_help(words) and (count := number_of_processes(gpus)) > 1:
        return launch(count, "train", words)
    with joined() as processes, said_once(processes):
        _train(words, processes)
    return 0


def _train(words: list[str], processes: Processes) -> None:
    words, quiet = take_flag(words, "--quiet")
    words, json = take_flag(words, "--json")
    if quiet and json:
        raise UsageError("--quiet and --json: one prints nothing and the other everything; leave one out")
    quiet = quiet or processes.rank > 0
    if quiet:
        hide_download_bars()
    words, page = take_flag(words, "--ui")
    words, elsewhere = take_elsewhere(words)
    words, allow = take_flag(words, "--allow-changes")
    words, resume = take_flag(words, "--resume")
    if allow and not resume:
        raise UsageError("--allow-changes: only a resumed run has settings to change; add --resume")
    say = stages.silent if quiet else Screen(stderr=json).print
    job = _job(words, resume=resume, say=say)
    display = None if quiet else JsonLines() if json else RunConsole()
    beside = PageBeside(None if isinstance(job, Config) else job.output_dir) if page and processes.rank == 0 else None
    listeners: list[Listener] = [each for each in (ReportFile(), display, beside) if each]
    with closing(display) if display else nullcontext(), closing(beside) if beside else nullcontext():
        with working_for(elsewhere, job, processes, say) as given:
            if isinstance(job, Config):
                loop.train(job, given, resume=resume, allow_changes=allow, listeners=listeners, processes=processes)
                return
        say = display.say if display else stages.silent
        stages.train_curriculum(job, resume=resume, listeners=listeners, say=say, processes=processes)


def _job(words: list[str], *, resume: bool, say: Callable[[str], None]) -> Config | Curriculum:
    """What is to be trained, with the settings that --fit chooses; `say` is told of these."""
    if resume and "auto" in words:
        words = _newest(words)
    words, fit = take_option(words, "--fit")
    if fit is not None and launched().size > 1:
        raise UsageError("--fit chooses for one process: take the options that `vgrpo plan RECIPE --fit 24GB --gpus N` prints")
    job = parse_job(words, prog="vgrpo train [RECIPE | run.yaml]", description=DESCRIPTION, resume=resume)
    if resume and job.output_dir is None:
        raise UsageError("--resume: name the run, by --output-dir or by its config.yaml")
    return job if fit is None else fitted(job, fit, resume=resume, say=say)


def _newest(words: list[str]) -> list[str]:
    """The words with the newest unfinished run's settings in the place of `auto`."""
    words = [word for word in words if word != "auto"]
    if words and not words[0].startswith("-") and not Path(words[0]).is_file():
        raise UsageError(f"--resume auto takes the newest run's own settings; leave out {words[0]}")
    return [str(newest_run() / "config.yaml"), *words]
