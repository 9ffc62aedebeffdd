"""One call of a reward. A reward is a user's code, or a server's: it may raise anything, answer anything, or never answer."""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.support.secrets import in_one_line

Reward = Callable[[Tensor, list[Prompt]], Tensor]
T = TypeVar("T")
SAID = ("judges", "judges_groups", "judges_videos", "each_alone", "device", "found", "num_at_once", "news", "end_workers")
"""What a reward may say of itself: which prompts it judges (`judges`), that it must see a prompt's images together
(`judges_groups`), sees all frames of a video (`judges_videos`) or looks at each image alone (`each_alone`), where its models
compute (`device`), and what it saw on pictures that it judged (`found`). One that only waits for other processes says how many
calls at a time it can use (`num_at_once`), has `news` of them, and those that a run has started for it end by `end_workers`."""


class RewardError(RuntimeError):
    """A reward failed on a whole batch: the run cannot go on."""


class CallFailed(Exception):
    """The reward raised an error."""


class NoAnswer(CallFailed):
    """The reward was still busy when its time was over."""


def name_of(reward: Reward) -> str:
    return str(getattr(reward, "__name__", type(reward).__name__))


def call(reward: Reward, images: Tensor, prompts: list[Prompt], timeout: float | None = None) -> Tensor:
    """Scores [B], fp32 on the CPU; infinite for one that fp32 cannot hold. The reward gets copies, so that it cannot
    change what the next one judges.

    Raises CallFailed, with the reason, for whatever the reward raises, NoAnswer after `timeout` seconds, and RewardError for an
    answer that is not one real number per image, or if the reward itself raises that.
    """
    own_images, own_prompts = images.detach().clone(), [replace(p, metadata=_copied(p.metadata)) for p in prompts]

    def run() -> Any:
        return reward(own_images, own_prompts)

    try:
        answer = run() if timeout is None else _within(timeout, run)
    except (KeyboardInterrupt, RewardError, CallFailed):
        raise
    except BaseException as error:  # also SystemExit: a reward must not end a run as if it were done
        raise CallFailed(in_one_line(error)) from error
    return _scores(answer, len(images))


def has_own_processes(reward: Reward) -> bool:
    """Whether it only waits for other processes."""
    return hasattr(reward, "num_at_once")


def limited(reward: Reward, seconds: float | None) -> Reward:
    """The same reward, which has failed where it does not answer within so many seconds; None waits for ever."""
    if seconds is None:
        return reward

    def within(images: Tensor, prompts: list[Prompt]) -> Any:
        return _within(seconds, lambda: reward(images, prompts))

    return keep_name(within, reward)


def keep_name(wrapper: Any, reward: Reward) -> Reward:
    """A function that calls a reward, with its name and what it says of itself."""
    wrapper.__name__ = name_of(reward)
    for name in SAID:
        if hasattr(reward, name):
            setattr(wrapper, name, getattr(reward, name))
    wrapped: Reward = wrapper
    return wrapped


def news_of(reward: Reward) -> list[str]:
    """What happened since this was last asked, such as a server that was lost, each once."""
    news: list[str] = getattr(reward, "news", [])
    return list(dict.fromkeys(news.pop(0) for _ in range(len(news))))


def as_here(run: Callable[[], T]) -> Callable[[], T]:
    """`run`, once, in another thread: with this thread's gradients, GPU and context, of which a thread begins with none."""
    grads, context = torch.is_grad_enabled(), contextvars.copy_context()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def there() -> T:
        if device is not None:
            torch.cuda.set_device(device)
        with torch.set_grad_enabled(grads):
            return run()

    return lambda: context.run(there)


def _within(seconds: float, run: Callable[[], Any]) -> Any:
    """What `run` returns or raises. A thread that is late is left alone; as a daemon it keeps no process from its end."""
    result: list[Any] = []
    errors: list[BaseException] = []
    here = as_here(run)

    def target() -> None:
        try:
            result.append(here())
        except BaseException as error:  # handed to the caller
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))
    if errors:
        raise errors[0]
    if not result:
        raise NoAnswer(f"no answer within {seconds:g} s")
    return result[0]


def _copied(value: Any) -> Any:
    """Mappings and lists anew, what is in them as it is."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _scores(answer: Any, count: int) -> Tensor:
    """Raises RewardError, saying what the reward must return instead."""
    must = f"it must return [{count}], one real number per image"
    if not isinstance(answer, Tensor | np.ndarray | list | tuple):
        raise RewardError(f"the reward returned a {type(answer).__name__} for {count} images; {must}")
    try:
        values = torch.as_tensor(answer).detach().cpu()
        if values.is_complex() or values.dtype == torch.bool:
            raise RewardError(f"the reward returned values of {values.dtype}; {must}, such as .float()")
        values = values.float()
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, RewardError):
            raise
        what = f"a {type(answer).__name__} that holds no numbers ({in_one_line(error)[:200]})"
        raise RewardError(f"the reward returned {what}; {must}") from error
    if values.shape != (count,):
        raise RewardError(f"the reward returned shape {list(values.shape)} for {count} images; {must}")
    return values
