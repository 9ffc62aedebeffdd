"""`vgrpo doctor`: what this machine has, what it can train, and what to type."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from vgrpo.analysis import machine
from vgrpo.analysis.machine import GB, PACKAGES, Gpu
from vgrpo.commands.options import HelpShown, asks_for_help
from vgrpo.commands.screen import Screen
from vgrpo.commands.words import UsageError
from vgrpo.models.published import HUB_IDS, NETWORK_BILLIONS
from vgrpo.recipes import RECIPES
from vgrpo.support.secrets import redact
from vgrpo.support.version import VERSION
from vgrpo.training.settings.stages import Curriculum

USAGE = "vgrpo doctor"
DESCRIPTION = "What this machine has, which recipes it can train, and the command to type. No token is ever shown."


def run(words: list[str]) -> None:
    if asks_for_help(words):
        print(f"usage: {USAGE}\n\n{DESCRIPTION}")
        raise HelpShown
    if words:
        raise UsageError(f"{words[0]}: takes no options: {USAGE}")
    screen, cards = Screen(), machine.gpus()
    for line in (*_machine(cards), *_hub(), *_packages(), *_recipes(cards)):
        screen.print(redact(line))


def _machine(cards: list[Gpu]) -> Iterator[str]:
    yield f"vgrpo {VERSION}, {machine.python()}"
    memory = machine.main_memory()
    yield f"CPU: {os.cpu_count()} cores" + ("" if memory is None else f", {memory / GB:.0f} GB of memory")
    yield f"driver: {machine.driver()}"
    if torch.backends.mps.is_available():
        yield "GPU: Apple's, as --device mps; nothing here was tried on one"
    elif not cards:
        yield f"GPU: none that torch can use; it is built for {machine.built_for()}"
    for index, card in enumerate(cards):
        precision = "bf16" if card.bf16 else "no bf16, so arithmetic is fp32"
        yield f"GPU {index}: {card.name}, {card.total / GB:.1f} GB, of which {card.free / GB:.1f} GB are free; {precision}"
    for name, folder in (("this folder", Path.cwd()), ("the hub's cache", machine.hub_cache())):
        free = machine.free_disk(folder)
        yield f"disk: {'unknown' if free is None else f'{free / GB:.0f} GB'} free for {name}, {folder}"


def _hub() -> Iterator[str]:
    yield f"hub: {machine.hub_access()}"
    token = "is set" if machine.has_token() else "none; gated models (Stable Diffusion 3, FLUX) need one: hf auth login"
    yield f"hub's token: {token}"


def _packages() -> Iterator[str]:
    for name, version in machine.packages().items():
        yield f"{name}: {version or 'not installed'} ({PACKAGES[name]})"


def _recipes(cards: list[Gpu]) -> Iterator[str]:
    """By model, the largest GPU against the weights that must be on it; `vgrpo plan` then counts everything else."""
    free = max((card.free for card in cards), default=0)
    by_model: dict[str, list[str]] = {}
    for name, recipe in RECIPES.items():
        config = recipe.stages[0].config if isinstance(recipe, Curriculum) else recipe
        by_model.setdefault(config.model, []).append(name)
    possible: list[str] = []
    for model, names in by_model.items():
        verdict, can = _verdict(model, free)
        yield f"{', '.join(names)}: {verdict}"
        possible += names if can else []
    yield "to type next:"
    if possible:
        yield f"  vgrpo plan {possible[-1]} --fit {free // GB}GB"
    yield "  vgrpo train sprites --gpus auto --output-dir runs/demo"


def _verdict(model: str, free: int) -> tuple[str, bool]:
    """Whether a model can be trained, in words, and whether its memory should be planned."""
    if model not in HUB_IDS:
        return "yes, on any machine, in minutes", False
    gigabytes = 2e9 * NETWORK_BILLIONS[HUB_IDS[model]] / GB
    needed = f"the weights of {model} alone are {gigabytes:.1f} GB in bf16"
    if not free:
        return f"no: {needed}, and there is no GPU", False
    if gigabytes > free / GB:
        return f"no: {needed}, and {free / GB:.1f} GB are free", False
    return f"perhaps: {needed} of {free / GB:.1f} GB; `vgrpo plan` counts the rest", True
