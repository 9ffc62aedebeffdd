"""Evaluations of a run, and the weights of the best one beside the newest."""

from pathlib import Path
from typing import Any

import torch

from vgrpo.evaluation.core import evaluate, read_eval, write_eval
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.training.checkpoints.checkpoint import move
from vgrpo.training.checkpoints.folder import delete
from vgrpo.training.run import Run

Scores = dict[str, Any]
"""What `evaluate` returns; {} without held-out prompts."""


def evaluate_run(run: Run, phase: str, sampling: EvalConfig) -> Scores:
    """Scores of the averaged weights on the held-out prompts."""
    task = run.task
    if not task.eval_prompts:
        return {}
    num_images = len(task.eval_prompts) * sampling.num_images
    detail = f"{num_images} images of {len(task.eval_prompts)} held-out prompts"
    with run.events.phase(phase, detail=detail), run.average.active():
        between = run.batches(phase, num_images)
        return evaluate(run.policy, task.eval_prompts, task.panel, sampling, task.world, between, run.processes)


def is_due(run: Run, every: int) -> bool:
    """Whether the weights of this iteration, one of `every` so many, are to be evaluated on the way, and are not yet."""
    return every > 0 and run.iteration > 0 and run.iteration % every == 0 and run.best.evaluated < run.iteration


def evaluate_on_the_way(run: Run, sampling: EvalConfig) -> None:
    """Evaluate, and keep the weights if they are the best so far."""
    keep_best(run, evaluate_run(run, "evaluation on the way", sampling))


def keep_best(run: Run, scores: Scores) -> None:
    """Note the scores of this iteration's weights, in a checkpoint too, for a resumed run; then write the weights if none were
    better. A run that is stopped in between writes them when it goes on."""
    if not scores:
        return
    is_best = run.best.add(run.iteration, scores)
    run.save_checkpoint()
    if is_best:
        run.writer.finish()
        _write(run)
    reward, best = scores["reward"], run.best.scores or {}
    said = "no score" if reward is None else f"{reward:.4f}"
    best_so_far = "the best so far" if is_best else f"the best is that of iteration {best.get('iteration', 'none')}"
    run.events.notice(f"held-out reward after iteration {run.iteration}: {said}, {best_so_far}")


def recover_best(run: Run) -> None:
    """For a run that goes on: what is kept as the best must be what its checkpoint knows. If it is of an iteration that the run
    went back before, the best is sought anew, aloud."""
    scores = run.best.scores
    if scores is not None and scores["iteration"] == run.iteration:
        _write(run)  # perhaps again: whether it was whole nobody knows
        return
    kept = True
    if run.processes.rank == 0:
        folder = best_folder(run)
        replaced = folder.with_name(f".replaced-{folder.name}")
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        there = read_eval(run.folder).get("best", {}).get("iteration") if folder.exists() else None
        kept = there == (scores and scores["iteration"])
    if run.processes.total(torch.tensor([float(not kept)])).item():
        run.best.scores = None
        run.events.notice(
            f"{best_folder(run)} is not of the iterations before {run.iteration}: the best is sought anew from here"
        )


def best_folder(run: Run) -> Path:
    return run.folder / f"{run.weights_name}-best"


def _write(run: Run) -> None:
    """The weights as a whole folder, or none of it, then what they scored."""
    folder = best_folder(run)
    draft = folder.with_name(f".draft-{folder.name}")
    if run.processes.rank == 0 and draft.exists():
        delete(draft)
    run.save_weights(draft)
    if run.processes.rank == 0:
        move(draft, folder)
        write_eval(run.folder, best=run.best.scores or {})
