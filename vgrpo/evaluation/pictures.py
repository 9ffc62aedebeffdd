"""The pictures of an evaluation: each is named, and so is its noise, so that base and tuned weights start from the same."""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core.types import MAIN, Prompt
from vgrpo.models.policy import Policy
from vgrpo.sampling.draw import Between, all_noise, draw_images, nothing
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


def rows_by_tag(pictures: list[Picture]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(picture.tag, []).append(row)
    return rows


def draw(policy: Policy, pictures: list[Picture], settings: Sampling, between: Between = nothing) -> Tensor:
    """Images [B, 3, H, W] in [0, 1]. `between` is called before every batch."""
    noise = all_noise(policy, [("evaluation", picture.index, picture.member) for picture in pictures])
    return draw_images(policy, [picture.prompt for picture in pictures], noise, settings, between)[1]
