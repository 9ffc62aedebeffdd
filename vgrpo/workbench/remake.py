"""The command that draws a sample picture again, from a run's settings."""

import shlex
from pathlib import Path
from typing import Any

from vgrpo.pages.run_files import table
from vgrpo.support.secrets import redact

MODEL = ("adapter", "max_sequence_length", "resolution", "num_frames", "precision")
SAMPLING = ("solver", "num_steps", "shift", "guidance")


def command(folder: Path, settings: dict[str, Any], part: str, *, last: str) -> dict[str, Any]:
    """Of the pictures of a set, with a note where its weights are not kept. `last` is the newest set."""
    trained, full = int(part) > 0, settings.get("finetune") == "full"
    model = str(folder / "pipeline") if trained and full else str(settings.get("model", "sprites"))
    words = ["vgrpo", "sample", "--model", model]
    for name in MODEL:
        if settings.get(name) not in (None, "auto"):
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    weights = table(settings.get("memory")).get("weights")
    if weights not in (None, "auto"):  # rounded ones draw other pictures
        words += ["--memory.weights", str(weights)]
    for name in SAMPLING:
        if name in table(settings.get("eval")):
            words += [f"--{name.replace('_', '-')}", str(settings["eval"][name])]
    if trained and not full:
        words += ["--lora", str(folder / "lora")]
    note = ""
    if trained and full:
        note = "pipeline/ is written when the run ends, and holds the weights of its end"
    elif trained and part != last:
        note = f"lora/ holds the weights of the newest checkpoint; those of iteration {int(part)} may be gone"
    words += ["--prompts", str(folder / "samples" / part / "prompts.txt"), "--num-images", "4", "--seed", "0"]
    words += ["--output-dir", f"pictures-{part}"]
    return {"command": told(words), "note": note}


def told(words: list[str]) -> str:
    """A command as a person can copy it. A terminal would obey a sign of control that somebody's settings hold."""
    return redact("".join(letter if letter.isprintable() else "?" for letter in shlex.join(words)))
