"""Best-of-n fine-tuning: the pretraining loss on the best image of every group (RAFT, arXiv:2304.06767). Ties share the weight,
and a group without any difference teaches nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Probes
from vgrpo.objectives.forward.regression import WeightedRegression


@dataclass(frozen=True, kw_only=True)
class SFT(WeightedRegression):
    """Hyper-parameters of best-of-n fine-tuning."""

    def weight(self, batch: Batch[Probes]) -> Tensor:
        """Weights [B]: the group's size, shared by its best images, where its advantages differ at all."""
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        best = torch.full((len(count),), -torch.inf, device=index.device)
        best = best.scatter_reduce(0, index, torch.where(batch.valid, batch.advantage, -torch.inf), "amax")
        chosen = (batch.valid & (batch.advantage == best[index]) & (batch.advantage > 0)).float()
        shared = torch.zeros(len(count), device=index.device).index_add_(0, index, chosen)
        return chosen * (count / shared.clamp(min=1))[index]
