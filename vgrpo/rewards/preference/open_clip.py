"""A CLIP checkpoint of open_clip's code as the state of transformers' CLIPModel."""

from torch import Tensor

from vgrpo.rewards.downloads import renamed

BLOCK = {
    r"ln_1\.(weight|bias)": "layer_norm1",
    r"ln_2\.(weight|bias)": "layer_norm2",
    r"attn\.q_proj\.(weight|bias)": "self_attn.q_proj",
    r"attn\.k_proj\.(weight|bias)": "self_attn.k_proj",
    r"attn\.v_proj\.(weight|bias)": "self_attn.v_proj",
    r"attn\.out_proj\.(weight|bias)": "self_attn.out_proj",
    r"mlp\.c_fc\.(weight|bias)": "mlp.fc1",
    r"mlp\.c_proj\.(weight|bias)": "mlp.fc2",
}
TABLE = {
    r"logit_scale": "logit_scale",
    r"text_projection": "text_projection.weight",
    r"token_embedding\.weight": "text_model.embeddings.token_embedding.weight",
    r"positional_embedding": "text_model.embeddings.position_embedding.weight",
    r"ln_final\.(weight|bias)": r"text_model.final_layer_norm.\1",
    r"visual\.proj": "visual_projection.weight",
    r"visual\.class_embedding": "vision_model.embeddings.class_embedding",
    r"visual\.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    r"visual\.conv1\.weight": "vision_model.embeddings.patch_embedding.weight",
    r"visual\.ln_pre\.(weight|bias)": r"vision_model.pre_layrnorm.\1",  # transformers spells it so
    r"visual\.ln_post\.(weight|bias)": r"vision_model.post_layernorm.\1",
}
for old_tower, new_tower in ((r"visual\.transformer", "vision_model"), ("transformer", "text_model")):
    TABLE |= {
        rf"{old_tower}\.resblocks\.(\d+)\.{old}": rf"{new_tower}.encoder.layers.\1.{new}.\2" for old, new in BLOCK.items()
    }
TRANSPOSED = ("text_projection", "visual.proj")  # open_clip multiplies from the right


def convert_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's state as CLIPModel's: names changed, each joint in_proj cut into query, key and value."""
    parts = {}
    for key, value in state.items():
        if ".in_proj_" in key:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                parts[key.replace("in_proj_", f"{letter}_proj.")] = part
        else:
            parts[key] = value.T if key in TRANSPOSED else value
    return renamed(parts, TABLE)
