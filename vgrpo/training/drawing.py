"""The images of an iteration: drawn here or by workers, now or ahead."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch

from vgrpo.core.seeds import Seed
from vgrpo.core.solvers import num_evaluations
from vgrpo.core.types import Prompt, Rollout
from vgrpo.models.in_step import drawing
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import WeightCopy, trainable
from vgrpo.objectives.drawing import Drawing
from vgrpo.rewards.judging import Judging
from vgrpo.sampling.draw import all_noise, draw_groups, draw_images, member_name
from vgrpo.sampling.served.wire import pack_weights
from vgrpo.sampling.settings import Sampling
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.judges import begin_judging
from vgrpo.training.record.events import PhaseAdvanced, Values
from vgrpo.training.rollouts.settings import RolloutConfig
from vgrpo.training.rollouts.state import Coming
from vgrpo.training.rollouts.workers import Drawn, Named
from vgrpo.training.run import Run


class Plan(NamedTuple):
    """What is drawn in every iteration, and how."""

    seed: int
    """The run's."""
    settings: RolloutConfig
    sampling: Sampling
    drawing: Drawing
    """What the algorithm asks of it."""
    lora: LoraConfig

    def names(self, iteration: int) -> Seed:
        return (self.seed, "iteration", iteration)


def coming_images(run: Run, plan: Plan) -> Coming:
    """Of this iteration: what was begun an iteration ago, or, as on the first and after a resume, is begun now."""
    coming, run.ahead.coming = run.ahead.coming, None
    if coming is not None:
        return coming
    with run.weight_set("old"):
        return _begin(run, plan, run.iteration)


def begin_ahead(run: Run, plan: Plan, judging: Judging, *, draws: bool) -> None:
    """Keep the behaviour policy as it is before the update, and with `draws` begin the next iteration's images by it. Without
    workers they are drawn before this returns, and only judging goes on beside the update. `judging` is this iteration's, and
    ends first: the rewards are asked for one iteration at a time."""
    judging.wait()
    with _behaviour(run):
        # Also on the last iteration: a longer run may go on from there.
        run.ahead.draws = WeightCopy(run.policy.module, run.policy.copies_device)
        if draws:
            run.ahead.coming = _begin(run, plan, run.iteration + 1)


def _behaviour(run: Run) -> AbstractContextManager[None]:
    return run.copies["old"].active() if "old" in run.copies else nullcontext()


@out_of_memory_while("drawing images to train on")
def _begin(run: Run, plan: Plan, iteration: int) -> Coming:
    """Under the weights that are now in the model."""
    coming = Coming(iteration=iteration, judging=begin_judging(run.task, plan.settings.group_size, run.policy.device))
    try:
        if run.ahead.workers is None:
            coming.rollout = _draw_here(run, plan, coming)
        else:
            weights = pack_weights(trainable(run.policy.module), plan.lora)
            shape, add = run.policy.latent_shape, _judge_from_any_thread(run, coming)
            coming.deal = run.ahead.workers.begin(_pieces(run, plan, iteration), weights, plan.sampling, shape, add)
    except BaseException:
        coming.close()
        raise
    return coming


def _draw_here(run: Run, plan: Plan, coming: Coming) -> Rollout:
    """This process's groups."""
    settings, seed = plan.settings, plan.names(coming.iteration)
    groups = run.processes.share(settings.num_prompts)
    with drawing(run.policy):
        return draw_groups(
            run.policy,
            run.task.prompts(coming.iteration, settings.num_prompts),
            *seed,
            group_size=settings.group_size,
            sampling=plan.sampling,
            groups=groups,
            step_sampler=plan.drawing.step_sampler(coming.iteration, *seed),
            initial_noise=plan.drawing.initial_noise,
            between=run.batches("rollout", len(groups) * settings.group_size, in_step=False),
            drawn=coming.judging.add,
        )


def _pieces(run: Run, plan: Plan, iteration: int) -> list[Named]:
    """This process's groups by their names, as many together as are drawn at once."""
    settings, noise = plan.settings, plan.drawing.initial_noise
    prompts, groups = run.task.prompts(iteration, settings.num_prompts), run.processes.share(settings.num_prompts)
    at_once = max(1, (settings.batch_size or 1) // settings.group_size)
    pieces = []
    for start in range(0, len(groups), at_once):
        own = groups[start : start + at_once]
        images = [(place, group, noise(member)) for place, group in enumerate(own) for member in range(settings.group_size)]
        pieces.append(Named(plan.names(iteration), [prompts[group] for group in own], images))
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
def finished_rollout(run: Run, plan: Plan, coming: Coming) -> Rollout:
    """This process's groups, once all are there. What no worker draws is drawn here."""
    if coming.rollout is not None:
        return coming.rollout
    assert coming.deal is not None
    assert run.ahead.workers is not None
    deal, pieces, sampling = coming.deal, coming.deal.pieces, plan.sampling

    def between() -> None:
        if run.processes.size == 1:
            run.check()
        done = sum(len(answer.images) for answer in list(deal.answers.values()))
        run.events.emit(PhaseAdvanced(name="rollout", done=done, total=sum(len(piece.images) for piece in pieces)))

    with run.weight_set("old"):
        drawn = deal.finished(lambda piece: _draw_piece(run, sampling, piece), between)
    run.ahead.workers.tell(run.events.notice)
    prompts = [prompt for piece in pieces for prompt in repeated(piece)]
    device, nfe = run.policy.device, num_evaluations(sampling.solver, sampling.num_steps)
    return Rollout(
        prompts=prompts,
        group=torch.tensor([group for piece in pieces for _, group, _ in piece.images], device=device),
        latents=torch.cat([each.latents for each in drawn]).to(device),
        cond=run.policy.encode_prompts(prompts),
        images=torch.cat([each.images for each in drawn]),
        num_groups=plan.settings.num_prompts,
        nfe=nfe * run.policy.num_branches(sampling.guidance),
    )


def _draw_piece(run: Run, sampling: Sampling, piece: Named) -> Drawn:
    noise = all_noise(run.policy, [member_name(piece.seed, group, index) for _, group, index in piece.images])
    return Drawn(*draw_images(run.policy, repeated(piece), noise, sampling))


def rollout_values(run: Run, coming: Coming) -> Values:
    """How the images came, over all processes: the share by weights from before the last update, and the pieces that were
    given to another worker or drawn by the trainer."""
    if run.ahead.workers is None and run.ahead.drew is None:
        return {}
    line = {"rollout/stale": float(run.ahead.drew is not None and coming.iteration > 0)}
    if run.ahead.workers is None:
        return line
    counts = [0, 0] if coming.deal is None else [coming.deal.num_again, coming.deal.num_spare]
    again, own = run.processes.total(torch.tensor(counts)).tolist()
    return line | {"rollout/again": again, "rollout/own": own}
