"""The pictures of an evaluation: each is named, and so is its noise, so that base and tuned weights start from the same."""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core.types import MAIN, Prompt
from vgrpo.models.policy import Policy
from vgrpo.sampling.draw import Between, Drawn, all_noise, draw_images, nothing, unseen
from vgrpo.sampling.settings import Sampling


@dataclass(frozen=True)
class Picture:
    """One to draw: its prompt, the prompt's index and the picture's among those of the prompt, which name its noise."""

    prompt: Prompt
    index: int
    member: int

    @property
    def tag(self) -> str:
        """The category that its score counts for."""
        task, tag = self.prompt.task, self.prompt.metadata.get("tag")
        if task == MAIN:
            return "all" if tag is None else str(tag)
        return task if tag is None else f"{task}: {tag}"


def pictures_of(prompts: list[Prompt], num_images: int) -> list[Picture]:
    """All pictures of all prompts, prompt by prompt."""
    return [Picture(prompt, index, member) for index, prompt in enumerate(prompts) for member in range(num_images)]


def prompts_of(pictures: list[Picture]) -> list[Prompt]:
    return [picture.prompt for picture in pictures]


def rows_by_tag(pictures: list[Picture]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(picture.tag, []).append(row)
    return rows


def draw(
    policy: Policy, pictures: list[Picture], settings: Sampling, between: Between = nothing, drawn: Drawn = unseen
) -> Tensor:
    """Images [B, 3, H, W] in [0, 1]. `between` is called before every batch, and `drawn` after it."""
    noise = all_noise(policy, [("evaluation", picture.index, picture.member) for picture in pictures])
    return draw_images(policy, prompts_of(pictures), noise, settings, between, drawn)[1]
