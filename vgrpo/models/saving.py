"""A pipeline with a trained network, as diffusers loads it."""

from pathlib import Path
from typing import Any

import torch

from vgrpo.models.policy import Policy
from vgrpo.models.quiet import without_loading_chatter


def save_pipeline(policy: Policy, folder: Path, *, writes: bool = True) -> None:
    """Write all of it. A spread network is gathered, weight by weight, by all processes, of which one `writes`."""
    pipeline, spread = policy.pipeline, policy.spread
    if spread is None:
        _save(pipeline, folder)
        return
    weights = {name: value for name, value in spread.whole_weights() if writes}
    if not writes:
        return
    network: Any = policy.module
    with torch.device("meta"):
        whole = spread.kind.from_config(network.config)
    whole.load_state_dict(weights, assign=True)
    setattr(pipeline, policy.network, whole)
    try:
        _save(pipeline, folder)
    finally:
        setattr(pipeline, policy.network, network)


def _save(pipeline: Any, folder: Path) -> None:
    with without_loading_chatter(bars=False):
        pipeline.save_pretrained(folder)
