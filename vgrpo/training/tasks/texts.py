"""All texts of a run, encoded before its first iteration into the folder of encoded prompts."""

import torch

from vgrpo.core.processes import ALONE, Processes
from vgrpo.models.policy import AT_ONCE, Policy
from vgrpo.training.record.events import Events, PhaseAdvanced
from vgrpo.training.tasks.prompts import RunPrompts


def texts_of(prompts: RunPrompts, num_iterations: int, num_prompts: int) -> list[str]:
    """Each once: of all iterations, of the evaluation and the trial, and the empty one of guidance."""
    trained = [prompt for index in range(num_iterations) for prompt in prompts.source(index, num_prompts)]
    texts = [prompt.text for prompt in (*prompts.trial, *prompts.held_out, *trained)]
    return list(dict.fromkeys(["", *texts]))


def encode_ahead(
    policy: Policy, prompts: RunPrompts, num_iterations: int, num_prompts: int, events: Events, processes: Processes = ALONE
) -> None:
    """Encode what is not in the folder yet: of several processes each its share, and all wait for all. What a process does not
    find later, as in a folder of another machine's, it encodes when it is asked for. Without a folder texts are encoded as they
    come; those with a picture always."""
    if policy.store is None or policy.takes_image:
        return
    own = texts_of(prompts, num_iterations, num_prompts)[processes.rank :: processes.size]
    texts = [text for text in own if not policy.store.path(text).is_file()]
    if texts:
        with events.phase("encoding", detail=f"{len(texts)} prompts, once for all runs with these encoders"):
            for start in range(0, len(texts), AT_ONCE):
                events.emit(PhaseAdvanced(name="encoding", done=start, total=len(texts)))
                policy.encode(texts[start : start + AT_ONCE])
    processes.total(torch.zeros(1))
