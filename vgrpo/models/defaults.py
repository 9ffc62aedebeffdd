"""How a model's own pipeline draws: its steps, its guidance, and its scheduler's time shift."""

import importlib
import inspect
import math
from typing import Any, NamedTuple

from vgrpo.models.bundled import is_bundled
from vgrpo.models.policy import Policy


class Defaults(NamedTuple):
    num_steps: int
    shift: float
    guidance: float


BUNDLED = Defaults(num_steps=16, shift=1.0, guidance=1.0)


def defaults_of(policy: Policy) -> Defaults:
    """What the model's pipeline, its scheduler and its size say; a distilled model has few steps and no guidance."""
    pipeline: Any = policy.pipeline
    if is_bundled(getattr(pipeline.config, "_name_or_path", "")):
        return BUNDLED
    own = inspect.signature(type(pipeline).__call__).parameters
    num_steps = policy.distilled_steps or own["num_inference_steps"].default
    said = own[policy.guidance_name].default if policy.guidance_name in own and not policy.distilled_steps else None
    guidance = 1.0 if said is None else max(1.0, float(said + policy.guidance_offset))  # below 1 is none, too
    return Defaults(num_steps, own_shift(policy, num_steps), guidance)


def own_shift(policy: Policy, num_steps: int) -> float:
    """s of t -> s t / (1 + (s - 1) t). A scheduler that shifts with the size of pictures has s = e^mu, mu linear in the number
    of tokens between two points; FLUX.2's pipelines have a formula of their own. A U-Net has none."""
    pipeline: Any = policy.pipeline
    if policy.network == "unet" or pipeline.scheduler is None:
        return 1.0
    config = pipeline.scheduler.config
    if not config.get("use_dynamic_shifting"):
        return float(config.get("flow_shift") or config.get("shift") or 1.0)
    formula = getattr(importlib.import_module(type(pipeline).__module__), "compute_empirical_mu", None)
    if formula is not None:
        mu = formula(image_seq_len=policy.num_image_tokens, num_steps=num_steps)
    else:
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * (policy.num_image_tokens - few) / (many - few)
    return float(mu if config.get("time_shift_type") == "linear" else math.exp(mu))
