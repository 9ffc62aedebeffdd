"""The configs of published models, so that a job can be sized before one is downloaded.

A model is its pipeline's class and the class and config of each part; what is left out of a config is the class's default. The
sizes that they come to are checked against the published ones in tests/analysis/test_plan_models.py.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Part = tuple[str, dict[str, Any]]
"""A class's path and its config."""


class Preset(NamedTuple):
    pipeline: str
    parts: dict[str, Part]
    options: Mapping[str, Any] = MappingProxyType({})
    """The pipeline's own."""


CLIP_L_CONFIG = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
CLIP_G_CONFIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "projection_dim": 1280}
CLIP_H_CONFIG = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
CLIP_L: Part = ("transformers.CLIPTextModel", CLIP_L_CONFIG)
CLIP_L_PROJECTED: Part = ("transformers.CLIPTextModelWithProjection", CLIP_L_CONFIG)
CLIP_G: Part = ("transformers.CLIPTextModelWithProjection", {**CLIP_G_CONFIG, "num_hidden_layers": 32})
CLIP_H: Part = ("transformers.CLIPTextModel", {**CLIP_H_CONFIG, "num_hidden_layers": 23})

XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
T5_XXL: Part = ("transformers.T5EncoderModel", XXL)
UMT5_XXL: Part = ("transformers.UMT5EncoderModel", {**XXL, "vocab_size": 256384})
GEMMA_2B: Part = ("transformers.Gemma2Model", {})
QWEN3_4B_CONFIG = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN_VL_7B: Part = (
    "transformers.Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
        "vision_config": {"hidden_size": 1280},
        "tie_word_embeddings": False,
    },
)
MISTRAL_24B: Part = (
    "transformers.Mistral3ForConditionalGeneration",
    {
        "text_config": {
            "model_type": "mistral",
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 131072,
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "image_size": 1540,
        },
        "tie_word_embeddings": False,
    },
)

KL_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
KL_4: Part = ("diffusers.AutoencoderKL", {**KL_CONFIG, "sample_size": 512})
KL_4_XL: Part = ("diffusers.AutoencoderKL", {**KL_CONFIG, "sample_size": 1024, "force_upcast": True})
KL_16: Part = (
    "diffusers.AutoencoderKL",
    {**KL_CONFIG, "latent_channels": 16, "sample_size": 1024, "use_quant_conv": False, "use_post_quant_conv": False},
)
WAN22_VAE: Part = (
    "diffusers.AutoencoderKLWan",
    {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "latents_mean": (0.0,) * 48,
        "latents_std": (1.0,) * 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
)
DC_BLOCKS, DC_SCALES = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3, ((), (), (), (5,), (5,), (5,))
DC_32: Part = (
    "diffusers.AutoencoderDC",
    {
        "encoder_block_types": DC_BLOCKS,
        "decoder_block_types": DC_BLOCKS,
        "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
        "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
        "encoder_qkv_multiscales": DC_SCALES,
        "decoder_qkv_multiscales": DC_SCALES,
        "downsample_block_type": "conv",
        "upsample_block_type": "interpolate",
    },
)


def _sd3(num_layers: int, side: int, **config: Any) -> Preset:
    """Stable Diffusion 3 with `num_layers` heads of 64 channels and positions for `side` x `side` tokens."""
    own = {"num_layers": num_layers, "num_attention_heads": num_layers, "caption_projection_dim": 64 * num_layers}
    common = {"sample_size": 128, "joint_attention_dim": 4096, "pos_embed_max_size": side}
    parts = {"text_encoder": CLIP_L_PROJECTED, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL, "vae": KL_16}
    network: Part = ("diffusers.SD3Transformer2DModel", {**common, **own, **config})
    return Preset("StableDiffusion3Pipeline", {"transformer": network, **parts})


UNET = "diffusers.UNet2DConditionModel"
SD15 = {"sample_size": 64, "cross_attention_dim": 768}
SD21 = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
FLUX1: dict[str, Part] = {"transformer": ("diffusers.FluxTransformer2DModel", {"guidance_embeds": True})}
FLUX2: dict[str, Part] = {"transformer": ("diffusers.Flux2Transformer2DModel", {})}
QWEN: dict[str, Part] = {"transformer": ("diffusers.QwenImageTransformer2DModel", {})}
SANA: dict[str, Part] = {"transformer": ("diffusers.SanaTransformer2DModel", {})}
KLEIN_CONFIG = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
KLEIN: dict[str, Part] = {"transformer": ("diffusers.Flux2Transformer2DModel", {**KLEIN_CONFIG, "guidance_embeds": False})}
Z_IMAGE: dict[str, Part] = {"transformer": ("diffusers.ZImageTransformer2DModel", {})}
WAN_CONFIG = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
WAN: dict[str, Part] = {"transformer": ("diffusers.WanTransformer3DModel", WAN_CONFIG)}
WAN22_CONFIG = {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48}
WAN22: dict[str, Part] = {"transformer": ("diffusers.WanTransformer3DModel", WAN22_CONFIG)}

PUBLISHED: dict[str, Preset] = {
    "sd15": Preset("StableDiffusionPipeline", {"unet": (UNET, SD15), "text_encoder": CLIP_L, "vae": KL_4}),
    "sd21": Preset("StableDiffusionPipeline", {"unet": (UNET, SD21), "text_encoder": CLIP_H, "vae": KL_4}),
    "sdxl": Preset(
        "StableDiffusionXLPipeline",
        {"unet": (UNET, SDXL), "text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "vae": KL_4_XL},
    ),
    "sd3-medium": _sd3(24, 192),
    "sd35-medium": _sd3(24, 384, qk_norm="rms_norm", dual_attention_layers=tuple(range(13))),
    "sd35-large": _sd3(38, 192, qk_norm="rms_norm"),
    "flux1-dev": Preset("FluxPipeline", {**FLUX1, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL, "vae": KL_16}),
    "flux1-kontext": Preset("FluxKontextPipeline", {**FLUX1, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL, "vae": KL_16}),
    "flux2-dev": Preset("Flux2Pipeline", {**FLUX2, "text_encoder": MISTRAL_24B, "vae": ("diffusers.AutoencoderKLFlux2", {})}),
    "flux2-klein-4b": Preset(
        "Flux2KleinPipeline",
        {
            **KLEIN,
            "text_encoder": ("transformers.Qwen3ForCausalLM", QWEN3_4B_CONFIG),
            "vae": ("diffusers.AutoencoderKLFlux2", {}),
        },
        options={"is_distilled": True},
    ),
    "qwen-image": Preset(
        "QwenImagePipeline", {**QWEN, "text_encoder": QWEN_VL_7B, "vae": ("diffusers.AutoencoderKLQwenImage", {})}
    ),
    "qwen-image-edit": Preset(
        "QwenImageEditPipeline", {**QWEN, "text_encoder": QWEN_VL_7B, "vae": ("diffusers.AutoencoderKLQwenImage", {})}
    ),
    "sana-1.6b": Preset("SanaPipeline", {**SANA, "text_encoder": GEMMA_2B, "vae": DC_32}),
    "z-image": Preset(
        "ZImagePipeline", {**Z_IMAGE, "text_encoder": ("transformers.Qwen3Model", QWEN3_4B_CONFIG), "vae": KL_16}
    ),
    "wan21-1.3b": Preset("WanPipeline", {**WAN, "text_encoder": UMT5_XXL, "vae": ("diffusers.AutoencoderKLWan", {})}),
    "wan22-5b": Preset(
        "WanPipeline", {**WAN22, "text_encoder": UMT5_XXL, "vae": WAN22_VAE}, options={"expand_timesteps": True}
    ),
}
"""Models by name."""

NETWORK_BILLIONS = {
    "sd15": 0.860,
    "sd21": 0.866,
    "sdxl": 2.567,
    "sd3-medium": 2.028,
    "sd35-medium": 2.243,
    "sd35-large": 8.057,
    "flux1-dev": 11.901,
    "flux1-kontext": 11.901,
    "flux2-dev": 32.223,
    "flux2-klein-4b": 3.876,
    "qwen-image": 20.430,
    "qwen-image-edit": 20.430,
    "sana-1.6b": 1.604,
    "z-image": 6.155,
    "wan21-1.3b": 1.419,
    "wan22-5b": 5.000,
}
"""Weights of the part that is trained, as published."""

HUB_IDS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/stable-diffusion-3-medium-diffusers": "sd3-medium",
    "stabilityai/stable-diffusion-3.5-medium": "sd35-medium",
    "stabilityai/stable-diffusion-3.5-large": "sd35-large",
    "black-forest-labs/FLUX.1-dev": "flux1-dev",
    "black-forest-labs/FLUX.1-Kontext-dev": "flux1-kontext",
    "black-forest-labs/FLUX.2-dev": "flux2-dev",
    "Qwen/Qwen-Image": "qwen-image",
    "Qwen/Qwen-Image-Edit": "qwen-image-edit",
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": "sana-1.6b",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "wan21-1.3b",
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": "wan22-5b",
    "black-forest-labs/FLUX.2-klein-4B": "flux2-klein-4b",
    "Tongyi-MAI/Z-Image": "z-image",
    "Tongyi-MAI/Z-Image-Turbo": "z-image",
}
"""Where the hub has them."""
