"""The main job: the bundled sprites model learns to draw what it is told, on two CPU cores, in minutes."""

from vgrpo.config import Config, LoraConfig, RolloutConfig, UpdateConfig

SPRITES = Config(
    max_sequence_length=0,  # the model was trained without padding, which would dwarf its 16 image tokens
    num_iterations=62,
    rollout=RolloutConfig(num_steps=8),
    # A constant 1e-3 first learns faster, and after 25 iterations pushes the model off its own images.
    update=UpdateConfig(lr=6e-4, lr_schedule="linear"),
    lora=LoraConfig(targets=(*LoraConfig().targets, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")),
)
