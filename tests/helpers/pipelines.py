"""Tiny random pipelines of every supported architecture: the real classes, a few thousand weights."""

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageEditPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from helpers import text_encoders
from helpers.text_encoders import TEXT_WIDTH
from vgrpo.worlds.sprites.build import build_tokenizer


def _clip(kind):
    config = CLIPTextConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=14,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return kind(config)


def autoencoder(channels, **config):
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **config,
    )


def _unet(width, **config):
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        **{"layers_per_block": 1} | config,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _ddim(prediction_type):
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction_type,
        steps_offset=1,
    )


def _shaken(pipeline, network):
    """Fresh weights hardly depend on the text; noise on all of them makes it matter."""
    for parameter in getattr(pipeline, network).parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return pipeline


def stable_diffusion(prediction_type="epsilon"):
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(4),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=build_tokenizer(),
        unet=_unet(TEXT_WIDTH),
        scheduler=_ddim(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _shaken(pipeline, "unet")


def stable_diffusion_v():
    return stable_diffusion("v_prediction")


def sdxl(**config):
    torch.manual_seed(0)
    unet = _unet(
        2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
        use_linear_projection=True,
        **config,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(4, force_upcast=True),
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        unet=unet,
        scheduler=_ddim("epsilon"),
    )
    return _shaken(pipeline, "unet")


def sdxl_two_layers():
    """As many layers in a block as the real one has, on which its original names depend."""
    return sdxl(layers_per_block=2)


def flux(pipeline=FluxPipeline, guidance_embeds=True):
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    t5, t5_tokenizer = text_encoders.t5()
    made = pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder(4, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=build_tokenizer(),
        text_encoder_2=t5,
        tokenizer_2=t5_tokenizer,
        transformer=transformer,
    )
    made.default_sample_size = 8
    return _shaken(made, "transformer")


def flux_kontext():
    return flux(FluxKontextPipeline)


def flux2(pipeline=Flux2Pipeline, encoder=text_encoders.mistral, guidance_embeds=True, **config):
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    text_encoder, tokenizer = encoder()
    made = pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * TEXT_WIDTH,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=guidance_embeds,
        ),
        **config,
    )
    return _shaken(made, "transformer")


def flux2_klein(is_distilled=False):
    return flux2(Flux2KleinPipeline, text_encoders.qwen3_for_flux2, guidance_embeds=False, is_distilled=is_distilled)


def z_image():
    torch.manual_seed(0)
    text_encoder, tokenizer = text_encoders.qwen3()
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=TEXT_WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[64, 32, 32],
        ),
    )
    for parameter in (pipeline.transformer.x_pad_token, pipeline.transformer.cap_pad_token):
        parameter.data.normal_()
    return _shaken(pipeline, "transformer")


def qwen_image(pipeline=QwenImagePipeline, **parts):
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    made = pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.5, 1.0, 2.0],
        ),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        **parts,
    )
    text_encoder, tokenizer = text_encoders.qwen(made.prompt_template_encode, made.prompt_template_encode_start_idx)
    made.register_modules(text_encoder=text_encoder, tokenizer=tokenizer)
    made.default_sample_size = 8
    return _shaken(made, "transformer")


def qwen_image_edit():
    made = qwen_image(QwenImageEditPipeline, processor=None)
    made.processor = text_encoders.QwenProcessor(made.tokenizer)  # no part that could be saved
    return made


def sana():
    torch.manual_seed(0)
    text_encoder, tokenizer = text_encoders.gemma()
    pipeline = SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            scaling_factor=0.41,
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=TEXT_WIDTH,
            sample_size=16,
            timestep_scale=0.5,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return _shaken(pipeline, "transformer")


def wan(vae=None, channels=16, **config):
    torch.manual_seed(0)
    text_encoder, tokenizer = text_encoders.umt5()
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae or AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=channels,
            out_channels=channels,
            text_dim=TEXT_WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
        ),
        **config,
    )
    return _shaken(pipeline, "transformer")


def wan22():
    """The 5B of Wan 2.2: a time per token, and an autoencoder of its own that halves the sides once more."""
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=8,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * 8,
        latents_std=[1.5] * 8,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    return wan(vae, 8, expand_timesteps=True)
