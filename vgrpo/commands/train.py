"""`vgrpo train`: fine-tune a model on a reward."""

from pathlib import Path

from vgrpo.commands.api import train, train_curriculum
from vgrpo.commands.job import parse_job
from vgrpo.commands.launch import launch
from vgrpo.commands.options import asks_for_help, take_flag, take_option
from vgrpo.commands.words import UsageError
from vgrpo.core.processes import Processes
from vgrpo.support.checks import require
from vgrpo.training.joining import joined, said_once
from vgrpo.training.resume import newest_run
from vgrpo.training.stages import Curriculum

DESCRIPTION = (
    "Fine-tune a model on a reward. Settings: a recipe's (docs/recipes.md lists them) or a config.yaml's, then these "
    "options. --task-NAME.prompts FILE --task-NAME.reward REWARD adds a task with prompts and rewards of its own "
    "(docs/prompts.md). --objective NAME chooses the algorithm (vgrpo; docs/objectives.md lists the others), whose settings "
    "are then --objective.X. --resume goes on with the run in --output-dir, or begins it; --resume auto takes the newest "
    "unfinished run under runs/. --allow-changes lets a resumed run have other settings. --gpus N trains with N processes, "
    "one for each GPU (docs/scale.md)."
)


def run(words: list[str]) -> int:
    """Train in this process, or in several that it starts; returns the status of those, or 0."""
    words, gpus = take_option(words, "--gpus")
    if gpus is not None and not asks_for_help(words):
        return launch(gpus, "train", words)
    with joined() as processes, said_once(processes):
        _train(words, processes)
    return 0


def _train(words: list[str], processes: Processes) -> None:
    words, allow = take_flag(words, "--allow-changes")
    words, resume = take_flag(words, "--resume")
    if resume and "auto" in words:
        words = _newest(words)
    job = parse_job(words, prog="vgrpo train [RECIPE | run.yaml]", description=DESCRIPTION, resume=resume)
    if resume and job.output_dir is None:
        raise UsageError("--resume: name the run, by --output-dir or by its config.yaml")
    if allow and not resume:
        raise UsageError("--allow-changes: only a resumed run has settings to change; add --resume")
    if isinstance(job, Curriculum):
        require(processes.size == 1, "a curriculum trains in one process; train its stages one by one, each with --lora.init")
        train_curriculum(job, resume=resume)
    else:
        train(job, resume=resume, allow_changes=allow, processes=processes)


def _newest(words: list[str]) -> list[str]:
    """The words with the newest unfinished run's settings in the place of `auto`."""
    words = [word for word in words if word != "auto"]
    if words and not words[0].startswith("-") and not Path(words[0]).is_file():
        raise UsageError(f"--resume auto takes the newest run's own settings; leave out {words[0]}")
    return [str(newest_run() / "config.yaml"), *words]
