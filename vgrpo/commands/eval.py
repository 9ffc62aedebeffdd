"""`vgrpo eval`: score a model on held-out prompts."""

from dataclasses import replace
from pathlib import Path

from rich.progress import track

from vgrpo.commands.options import parse, take_option
from vgrpo.commands.screen import Screen
from vgrpo.commands.tables import intervals_table, results_table
from vgrpo.commands.words import UsageError
from vgrpo.evaluation.job import EvalJob, Outcome, evaluate_model, suite_job
from vgrpo.support.launched import launched

DESCRIPTION = "Score a model, with or without a LoRA, on the prompts and by the rewards of a suite or your own."


def run(words: list[str]) -> None:
    words, suite = take_option(words, "--suite")
    unnamed = Path()
    default = None if suite is None else suite_job(suite, output_dir=unnamed)
    job = parse(EvalJob, words, prog="vgrpo eval [--suite NAME]", description=DESCRIPTION, default=default)
    if job.output_dir == unnamed:
        raise UsageError("--output-dir is needed: name the folder that gets scores and pictures")
    place = launched()
    if place.size > 1:
        if job.shard != EvalJob.shard:
            raise UsageError(f"--shard {job.shard}: torchrun's processes share the pictures by themselves; leave it out")
        job = replace(job, shard=f"{place.rank}/{place.size}")
    evaluate(job)


def evaluate(job: EvalJob) -> Outcome:
    """Evaluate with a bar for each model's batches, then print the tables, or what other shards have yet to do."""
    screen = Screen()
    outcome = evaluate_model(job, lambda batches, what: track(batches, description=what, console=screen))
    if outcome.content is None:
        there = ", ".join(f"{part} {count} of {outcome.num_images}" for part, count in outcome.num_scored.items())
        screen.print(f"shard {job.shard} is done; images scored by all shards so far: {there}")
    else:
        screen.print(results_table(outcome.content), intervals_table(outcome.content), sep="\n")
        screen.print(f"scores and pictures in {outcome.page}")
    return outcome
