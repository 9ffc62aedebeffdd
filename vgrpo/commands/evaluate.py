"""`vgrpo eval`: what an evaluation shows in the terminal."""

from rich.console import Console
from rich.progress import track

from vgrpo.commands.tables import intervals_table, results_table
from vgrpo.evaluation.job import EvalJob, Outcome, evaluate_model


def evaluate(job: EvalJob) -> Outcome:
    """Evaluate with a bar for each model's batches, then print the tables, or what other shards have yet to do."""
    outcome = evaluate_model(job, lambda batches, what: track(batches, description=what))
    console = Console()
    if outcome.content is None:
        there = ", ".join(f"{part} {count} of {outcome.num_images}" for part, count in outcome.num_scored.items())
        console.print(f"shard {job.shard} is done; images scored by all shards so far: {there}")
    else:
        console.print(results_table(outcome.content), intervals_table(outcome.content), sep="\n")
        console.print(f"scores and pictures in {outcome.page}")
    return outcome
