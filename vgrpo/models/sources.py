"""Source images of prompts, for models that edit a picture."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.models.policy import Policy


def check_sources(policy: Policy, prompts: Sequence[Prompt]) -> None:
    """Raise ValueError for the first prompt without a source image if the model needs one."""
    pipeline: Any = policy.pipeline
    missing = [prompt for prompt in prompts if policy.takes_image and prompt.image is None]
    if missing:
        raise ValueError(
            f"a {type(pipeline).__name__} edits a picture, and {len(missing)} of {len(prompts)} prompts have none; the "
            f"first is {missing[0].text!r}. Give a file of prompts with a field `image`; docs/prompts.md shows one"
        )


def with_image(prompts: list[Prompt], image: Path | None) -> list[Prompt]:
    """The prompts, with the given source image where they have none."""
    return [replace(prompt, image=image) if prompt.image is None else prompt for prompt in prompts]
