"""BLIP's image-grounded text encoder (arXiv:2201.12086) on transformers' classes, from a checkpoint of the original code.

The original names its image tower as timm names a ViT; its text encoder has transformers' names already.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vgrpo.rewards.downloads import renamed

VISION = {
    r"cls_token": "embeddings.class_embedding",
    r"pos_embed": "embeddings.position_embedding",
    r"patch_embed\.proj\.(weight|bias)": r"embeddings.patch_embedding.\1",
    r"blocks\.(\d+)\.norm([12])\.(weight|bias)": r"encoder.layers.\1.layer_norm\2.\3",
    r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)": r"encoder.layers.\1.self_attn.qkv.\2",
    r"blocks\.(\d+)\.attn\.proj\.(weight|bias)": r"encoder.layers.\1.self_attn.projection.\2",
    r"blocks\.(\d+)\.mlp\.fc([12])\.(weight|bias)": r"encoder.layers.\1.mlp.fc\2.\3",
    r"norm\.(weight|bias)": r"post_layernorm.\1",
}
TABLE = {rf"visual_encoder\.{old}": f"vision.{new}" for old, new in VISION.items()}
TABLE |= {r"text_encoder\.(embeddings\.(?!position_ids).*|encoder\..*)": r"text.\1"}
HEAD_WIDTH = 64  # channels per attention head in every ViT of BLIP


class Blip(nn.Module):
    """Pixels [B, 3, S, S] and tokens [B, L] to the text's states [B, L, C], each layer attending to the image's tokens."""

    def __init__(self, vision_config: Any, text_config: Any) -> None:
        from transformers import BlipTextModel, BlipVisionModel

        super().__init__()
        self.vision = BlipVisionModel(vision_config)
        self.text = BlipTextModel(text_config, add_pooling_layer=False)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        image = self.vision(pixel_values).last_hidden_state
        seen = torch.ones(image.shape[:2], dtype=torch.long, device=image.device)
        output = self.text(
            input_ids, attention_mask=attention_mask, encoder_hidden_states=image, encoder_attention_mask=seen, is_decoder=False
        )
        return output.last_hidden_state


def convert_blip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's state, `visual_encoder.*` and `text_encoder.*`, as `Blip`'s; its other parts are left out."""
    return renamed(state, TABLE)


def vision_config(state: dict[str, Tensor]) -> Any:
    """Shape of the image tower, read off the original's weights."""
    from transformers import BlipVisionConfig

    width, _, patch, _ = state["visual_encoder.patch_embed.proj.weight"].shape
    num_patches = state["visual_encoder.pos_embed"].shape[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=sum(key.endswith("attn.qkv.weight") for key in state),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=patch * round(num_patches**0.5),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def text_config(state: dict[str, Tensor]) -> Any:
    """Shape of the text encoder, read off the original's weights."""
    from transformers import BlipTextConfig

    vocabulary, width = state["text_encoder.embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=state["text_encoder.encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=sum(key.endswith("crossattention.self.key.weight") for key in state),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=state["text_encoder.embeddings.position_embeddings.weight"].shape[0],
        is_decoder=True,  # what gives the layers their cross-attention; the attention over the text stays bidirectional
    )
