"""What lets a large model fit."""

from typing import Any

from vgrpo.models.policy import Policy
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.text_store import TextStore, fingerprint, text_encoders


def fit(policy: Policy, config: MemoryConfig) -> None:
    """Apply the settings to a policy. Raises ValueError for one that its architecture does not have."""
    pipeline: Any = policy.pipeline
    network: Any = policy.module
    if config.gradient_checkpointing:
        if not getattr(network, "_supports_gradient_checkpointing", False):
            raise ValueError(f"memory.gradient_checkpointing=True: a {type(network).__name__} has none; leave it False")
        network.enable_gradient_checkpointing()
    for name in ("slicing", "tiling"):
        if getattr(config, f"vae_{name}"):
            if not hasattr(pipeline.vae, f"enable_{name}"):
                raise ValueError(f"memory.vae_{name}=True: a {type(pipeline.vae).__name__} has none; leave it False")
            getattr(pipeline.vae, f"enable_{name}")()
    policy.offload_copies = config.offload_copies
    if config.offload_encoders:
        policy.offload_encoders = True
        for encoder in text_encoders(pipeline):
            encoder.to("cpu")
    if config.prompt_cache is not None:  # after the text's length is known: texts cut elsewhere are other texts
        policy.store = TextStore(config.prompt_cache, fingerprint(pipeline, policy.max_sequence_length))
