"""The images of an iteration: drawn here or by workers, now or ahead."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from vgrpo.core.solvers import num_evaluations
from vgrpo.core.types import Prompt, Rollout
from vgrpo.models.weight_sets import WeightCopy, trainable
from vgrpo.rewards.judging import Judging
from vgrpo.sampling.draw import draw_groups, draw_images, member_noise
from vgrpo.sampling.served.wire import pack_weights
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.events import PhaseAdvanced, Values
from vgrpo.training.judges import begin_judging
from vgrpo.training.rollouts.state import Coming
from vgrpo.training.rollouts.workers import Drawn, Named
from vgrpo.training.run import Run


def coming_images(run: Run) -> Coming:
    """Of this iteration: what was begun an iteration ago, or, as on the first and after a resume, is begun now."""
    coming, run.ahead.coming = run.ahead.coming, None
    if coming is not None:
        return coming
    with run.weight_set("old"):
        return _begin(run, run.iteration)


def begin_ahead(run: Run, judging: Judging) -> None:
    """The images of the next iteration, by the behaviour policy as it is before this one's update. Without workers they are
    drawn before this returns, and only judging goes on beside the update. `judging` is this iteration's.

    Where sample pictures are due in between, only the weights are kept: the rewards are asked by one thread at a time.
    """
    for index in range(len(judging.rewards)):
        judging.answers(index)
    following = run.iteration + 1
    with _behaviour(run):
        run.ahead.draws = WeightCopy(run.policy.module)  # also on the last iteration: a longer run may go on from there
        if following < run.config.num_iterations and following % run.config.eval.sample_every > 0:
            run.ahead.coming = _begin(run, following)


def _behaviour(run: Run) -> AbstractContextManager[None]:
    return run.copies["old"].active() if "old" in run.copies else nullcontext()


@out_of_memory_while("drawing images to train on")
def _begin(run: Run, iteration: int) -> Coming:
    """Under the weights that are now in the model."""
    coming = Coming(iteration=iteration, judging=begin_judging(run))
    try:
        if run.ahead.workers is None:
            coming.rollout = _draw_here(run, coming)
        else:
            weights = pack_weights(trainable(run.policy.module), run.config.lora)
            shape, add = run.policy.latent_shape, _judge_from_any_thread(run, coming)
            coming.deal = run.ahead.workers.begin(_pieces(run, iteration), weights, run.config.rollout, shape, add)
    except BaseException:
        coming.close()
        raise
    return coming


def _draw_here(run: Run, coming: Coming) -> Rollout:
    """This process's groups."""
    settings, drawing, seed = run.config.rollout, run.config.objective.drawing, _seed(run, coming.iteration)
    groups = run.processes.share(settings.num_prompts)
    return draw_groups(
        run.policy,
        run.task.prompts(coming.iteration, settings.num_prompts),
        *seed,
        group_size=settings.group_size,
        sampling=settings,
        groups=groups,
        step_sampler=drawing.step_sampler(coming.iteration, *seed),
        initial_noise=drawing.initial_noise,
        between=run.batches("rollout", len(groups) * settings.group_size, in_step=False),
        drawn=coming.judging.add,
    )


def _seed(run: Run, iteration: int) -> tuple[int | str, ...]:
    return (run.config.seed, "iteration", iteration)


def _pieces(run: Run, iteration: int) -> list[Named]:
    """This process's groups by their names, as many together as are drawn at once."""
    settings, noise = run.config.rollout, run.config.objective.drawing.initial_noise
    prompts, groups = run.task.prompts(iteration, settings.num_prompts), run.processes.share(settings.num_prompts)
    at_once = max(1, (settings.batch_size or 1) // settings.group_size)
    pieces = []
    for start in range(0, len(groups), at_once):
        own = groups[start : start + at_once]
        images = [(place, group, noise(member)) for place, group in enumerate(own) for member in range(settings.group_size)]
        pieces.append(Named(_seed(run, iteration), [prompts[group] for group in own], images))
    return pieces


def _judge_from_any_thread(run: Run, coming: Coming) -> Callable[[Drawn, Named], None]:
    """Hands images over to the rewards. A thread begins on the first GPU, and rewards compute on that of who calls them."""
    device = run.policy.device

    def add(drawn: Drawn, piece: Named) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            coming.judging.add(drawn.images, repeated(piece))

    return add


def repeated(piece: Named) -> list[Prompt]:
    """The prompt of each image."""
    return [piece.prompts[place] for place, _, _ in piece.images]


@out_of_memory_while("drawing images to train on")
def finished_rollout(run: Run, coming: Coming) -> Rollout:
    """This process's groups, once all are there. What no worker draws is drawn here."""
    if coming.rollout is not None:
        return coming.rollout
    assert coming.deal is not None
    assert run.ahead.workers is not None
    deal, pieces, settings = coming.deal, coming.deal.pieces, run.config.rollout

    def between() -> None:
        if run.processes.size == 1:
            run.check()
        done = sum(len(answer.images) for answer in list(deal.answers.values()))
        run.events.emit(PhaseAdvanced(name="rollout", done=done, total=sum(len(piece.images) for piece in pieces)))

    with run.weight_set("old"):
        drawn = deal.finished(lambda piece: _draw_piece(run, piece), between)
    run.ahead.workers.tell(run.events.notice)
    prompts = [prompt for piece in pieces for prompt in repeated(piece)]
    device, nfe = run.policy.device, num_evaluations(settings.solver, settings.num_steps)
    return Rollout(
        prompts=prompts,
        group=torch.tensor([group for piece in pieces for _, group, _ in piece.images], device=device),
        latents=torch.cat([each.latents for each in drawn]).to(device),
        cond=run.policy.encode_prompts(prompts),
        images=torch.cat([each.images for each in drawn]),
        num_groups=settings.num_prompts,
        nfe=nfe * run.policy.num_branches(settings.guidance),
    )


def _draw_piece(run: Run, piece: Named) -> Drawn:
    noise = torch.stack([member_noise(run.policy, piece.seed, group, index) for _, group, index in piece.images])
    return Drawn(*draw_images(run.policy, repeated(piece), noise, run.config.rollout))


def rollout_values(run: Run, coming: Coming) -> Values:
    """How the images came, over all processes: the share by weights from before the last update, and the pieces that were
    given to another worker or drawn by the trainer."""
    if run.ahead.workers is None and run.ahead.drew is None:
        return {}
    dealer = None if run.ahead.workers is None else run.ahead.workers.dealer
    counts = [0, 0] if coming.deal is None else [coming.deal.num_again, coming.deal.num_spare]
    again, own = run.processes.total(torch.tensor(counts)).tolist()
    line = {"rollout/stale": float(run.ahead.drew is not None and coming.iteration > 0)}
    return line if dealer is None else line | {"rollout/again": again, "rollout/own": own}
