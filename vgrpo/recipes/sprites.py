"""The main job: the bundled sprites model learns to draw what it is told, on two CPU cores, in minutes."""

from vgrpo.config import Config, LoraConfig, UpdateConfig

SPRITES = Config(
    max_sequence_length=0,  # the model was trained without padding, which would dwarf its 16 image tokens
    update=UpdateConfig(lr=1e-3),
    lora=LoraConfig(targets=(*LoraConfig().targets, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")),
)
