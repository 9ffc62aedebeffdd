"""`vgrpo train`: fine-tune a model on a reward."""

from vgrpo.commands.api import train
from vgrpo.commands.job import parse_job
from vgrpo.commands.options import take_flag
from vgrpo.commands.words import UsageError
from vgrpo.training.curriculum import train_curriculum
from vgrpo.training.stages import Curriculum

DESCRIPTION = (
    "Fine-tune a model on a reward. Settings: a recipe's (docs/recipes.md lists them) or a config.yaml's, then these "
    "options. --objective NAME chooses the algorithm (vgrpo; docs/objectives.md lists the others), whose settings are then "
    "--objective.X. --resume goes on with the run in --output-dir."
)


def run(words: list[str]) -> None:
    words, resume = take_flag(words, "--resume")
    job = parse_job(words, prog="vgrpo train [RECIPE | run.yaml]", description=DESCRIPTION, resume=resume)
    if resume and job.output_dir is None:
        raise UsageError("--resume: name the run, by --output-dir or by its config.yaml")
    if isinstance(job, Curriculum):
        train_curriculum(job, resume=resume)
    else:
        train(job, resume=resume)
