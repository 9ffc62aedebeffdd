"""Who is credited with a reward: by default the whole generation."""

from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.types import Batch, Points, Trajectory


class Credit:
    """A whole generation is one action and earns the reward of its image.

    Dimensions: B images, J latents judged beside an image, S actions of an image, R rewards.
    """

    def judged(self, trajectory: Trajectory | None) -> Tensor | None:
        """Latents [B, J, *D] whose pictures are to be judged too; None where the final image is enough."""
        return None

    def gains(self, rewards: Tensor, judged: Tensor | None, group: Tensor, processes: Processes = ALONE) -> Tensor:
        """What the actions earned, [B, S, R], from the rewards of the final images [B, R], in groups [B], and of `judged`
        [B, J, R]. Each action is compared with the same action of its group's other images."""
        return rewards[:, None]

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        """The last word on what is trained on, when advantages are known."""
        return batch
