"""The settings of a model: which it is and how it is loaded, its LoRA, and what lets it fit into memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vgrpo.models.precision import FrozenDtype, Precision, check_device
from vgrpo.models.resolution import Resolution, sides_of
from vgrpo.support.checks import require, require_within
from vgrpo.support.secrets import require_no_secret


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The low-rank adapter that is trained (arXiv:2106.09685)."""

    rank: int = 32
    alpha: int = 64
    targets: tuple[str, ...] | None = None
    """Endings of the names of the linear layers that get an adapter; None is the architecture's attention."""
    init: Path | None = None
    """A saved adapter to go on from: a run's lora/, or a LoRA of diffusers, peft or kohya. None starts with a fresh one."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, f"lora.rank={self.rank}: must be at least 1; --finetune full trains without an adapter")
        require(self.alpha > 0, f"lora.alpha={self.alpha}: must be above 0, usually the rank or twice the rank")
        require_within(self, "lora.", rank=(1, 4096), alpha=(1, 65_536))
        require(self.targets is None or len(self.targets) >= 1, "lora.targets is empty: name a layer; None is the attention")
        require_no_secret(self, "lora.")


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What lets a large model fit. None of it but `weights` changes what is learned."""

    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: about a third slower, far less memory."""
    weights: FrozenDtype = "auto"
    """How frozen weights are kept; auto is bf16 for a LoRA on a GPU that has it. int8 and nf4 round the network's linear layers
    to 8 bits (pip install "vgrpo[torchao]") or 4 (pip install "vgrpo[bitsandbytes]"), which changes its images a little.
    What is trained stays fp32."""
    vae_slicing: bool = False
    """Decode images one at a time."""
    vae_tiling: bool = False
    """Decode large images in overlapping tiles."""
    offload_encoders: bool = False
    """Keep the text encoders in the CPU's memory; each comes to the GPU alone, for the texts that it encodes."""
    offload_rewards: bool = False
    """Keep reward models in the CPU's memory; each comes to its device alone, while it judges."""
    offload_copies: bool = False
    """Keep averages and copies of what is trained in the CPU's memory: with --finetune full each is a whole network in fp32."""
    prompt_cache: Path | None = None
    """Folder of encoded prompts. A run encodes all of its prompts into it before the first iteration; later runs read them.
    While a LoRA is trained, the text encoders are in no memory."""

    shard: Literal["none", "full", "hybrid"] = "none"
    """Of a run in several processes: full spreads the network's weights over all of them (FSDP), hybrid over those of each
    machine. Beside a LoRA the frozen weights are spread."""
    gather: bool = True
    """Keep a spread network whole while images are drawn, where it fits; without it, it is gathered block by block in each
    forward."""

    def __post_init__(self) -> None:
        require_no_secret(self, "memory.")
        require(
            self.shard == "none" or self.weights not in ("int8", "nf4"),
            f"memory.shard={self.shard}: weights in {self.weights} cannot be spread; take bf16, or shard none",
        )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A model, and how it is loaded: the same for training, drawing and measuring, whose own settings extend or produce it."""

    model: str = "sprites"
    """`sprites`, the folder of a diffusers pipeline, or its ORG/NAME on the hub."""
    adapter: str | None = None
    """Your own adapter for a pipeline class, as my_file:MyPolicy."""
    device: str = "auto"
    """auto is cuda where there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto is bf16 where a GPU has it, and on a CPU what is faster there."""
    max_sequence_length: int | None = None
    """Tokens of the longest text encoder; None is the pipeline's own default, and 0 for sprites."""
    resolution: Resolution | None = None
    """Pixels per side, or WIDTHxHEIGHT as 832x1216; None is the model's own."""
    num_frames: int | None = None
    """Frames of a video, of which the final one counts; None is the model's own."""
    compile: bool = False
    """Compile the network's repeated blocks (torch.compile): minutes at the start, faster steps on a GPU."""
    attention: str | None = None
    """A back end of diffusers for attention, such as native, flash or flash_hub; None is the network's own choice."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def check(self) -> None:
        """Raise ValueError for a size that no model has, a device that no machine has, or a secret, before one is loaded."""
        require_no_secret(self)
        check_device(self.device)
        for name, least in (("max_sequence_length", 0), ("num_frames", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value}: must be at least {least}; None is the model's own")
        require_within(self, max_sequence_length=(0, 65_536), num_frames=(1, 10_000))
        if self.resolution is not None:
            sides_of(self.resolution)
