"""Whether a pipeline's scheduler says of its network what the adapter takes for granted."""

from typing import Any

from vgrpo.models.policy import Policy
from vgrpo.support.checks import require

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def check_scheduler(policy: Policy) -> None:
    """Raise ValueError for a scheduler of another kind of network: pictures of such a one would be noise."""
    pipeline: Any = policy.pipeline
    scheduler = pipeline.scheduler
    if scheduler is None:  # of a model that is only sized
        return
    if policy.network == "unet":
        _check_ddpm(scheduler)
    else:
        _check_flow(scheduler)


def _check_ddpm(scheduler: Any) -> None:
    """A DDPM's noise levels, of which the last may be pure noise if the network predicts v."""
    name, prediction = type(scheduler).__name__, getattr(scheduler.config, "prediction_type", None)
    levels = getattr(scheduler, "alphas_cumprod", None)
    require(
        levels is not None,
        f"the scheduler is a {name}: a U-Net trained with EDM's noise levels or on a flow cannot be trained here; take a model "
        "with a DDPM's schedule (DDIMScheduler, EulerDiscreteScheduler, ...)",
    )
    require(
        prediction in PREDICTIONS,
        f"the scheduler's prediction_type is {prediction}: a U-Net must predict {', '.join(PREDICTIONS)}; correct "
        "scheduler_config.json if it does",
    )
    assert levels is not None
    require(
        float(levels[-1]) > 1e-6 or prediction == "v_prediction",
        f"the scheduler ends in pure noise (zero terminal SNR), where a prediction of {prediction} says nothing of the "
        "picture; such a network predicts v_prediction: correct scheduler_config.json if it does",
    )


def _check_flow(scheduler: Any) -> None:
    config, name = scheduler.config, type(scheduler).__name__
    flows = getattr(config, "use_flow_sigmas", False) or getattr(config, "prediction_type", None) == "flow_prediction"
    require(
        name.startswith("FlowMatch") or flows,
        f"the scheduler is a {name}: this network was trained on a flow, so its scheduler is FlowMatchEulerDiscreteScheduler "
        "or one with use_flow_sigmas; save the pipeline with the scheduler that came with it",
    )
