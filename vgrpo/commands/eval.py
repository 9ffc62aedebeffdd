"""`vgrpo eval`: score a model on held-out prompts."""

from pathlib import Path

from vgrpo.commands.evaluate import EvalJob, evaluate_model, suite_job
from vgrpo.commands.options import parse, take_option
from vgrpo.commands.words import UsageError

DESCRIPTION = "Score a model, with or without a LoRA, on the prompts and by the rewards of a suite or your own."


def run(words: list[str]) -> None:
    words, suite = take_option(words, "--suite")
    unnamed = Path()
    default = None if suite is None else suite_job(suite, output_dir=unnamed)
    job = parse(EvalJob, words, prog="vgrpo eval [--suite NAME]", description=DESCRIPTION, default=default)
    if job.output_dir == unnamed:
        raise UsageError("--output-dir is needed: name the folder that gets scores and pictures")
    evaluate_model(job)
