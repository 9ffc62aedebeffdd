"""FLUX.2 [klein] (Black Forest Labs, 2026), and everything else that loads as a Flux2KleinPipeline.

It is FLUX.2 with a small language model for its text and no guidance as an input. The base models are guided by a second
branch; the distilled ones ignore guidance, as their pipeline does.
"""

from dataclasses import dataclass

from vgrpo.models.adapters.flux2 import Flux2Policy


@dataclass(kw_only=True)
class Flux2KleinPolicy(Flux2Policy):
    """`max_sequence_length` counts tokens, the chat template's included."""

    @property
    def distilled_steps(self) -> int | None:
        return 4 if self.pipeline.config.is_distilled else None

    def num_branches(self, guidance: float) -> int:
        return 1 if self.pipeline.config.is_distilled or guidance == 1.0 else 2
