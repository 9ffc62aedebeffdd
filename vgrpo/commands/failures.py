"""What to do about an error in the middle of a command."""

import shlex

from vgrpo.commands.elsewhere import take_elsewhere
from vgrpo.commands.options import take_flag, take_option
from vgrpo.core.processes import PeerError
from vgrpo.rewards.base import RewardError
from vgrpo.support.memory_errors import GpuMemoryError
from vgrpo.training.optimizer import BadStepsError

LESS = (
    "Draw fewer images at once (--num-images of sample, --eval.batch-size of eval, --batch-size of diagnose), or switch on\n"
    "  --memory.offload-encoders --memory.vae-slicing --memory.vae-tiling\n"
    "and for diagnose --memory.gradient-checkpointing.\n"
    "`vgrpo plan --model MODEL` says what the model's parts take."
)


def remedy(command: str, words: list[str], error: RuntimeError) -> str | None:
    """Advice on an error that a user can mend, perhaps empty; None for any other."""
    if isinstance(error, RewardError | BadStepsError | PeerError):
        return ""
    if not isinstance(error, GpuMemoryError):
        return None
    if command != "train":
        return LESS
    return f"What takes it, and what to switch on:\n  {_plan_of(words, error.memory)}"


def _plan_of(words: list[str], memory: str | None) -> str:
    """The `vgrpo plan` of a training command: with its settings, and without what only a run takes."""
    words, _ = take_option(words, "--fit")  # the plan says itself what would fit into the memory that is there
    for flag in ("--resume", "--allow-changes", "--quiet", "--json", "--ui"):
        words, _ = take_flag(words, flag)
    words, _ = take_elsewhere(words)
    return shlex.join(["vgrpo", "plan", *words, *(["--gpu-memory", memory] if memory else [])])
