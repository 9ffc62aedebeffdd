"""ImageReward (arXiv:2304.05977): BLIP reads the prompt while attending to the image, and a head scores the first token."""

from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.batches import batched
from vgrpo.rewards.downloads import beside, fetch, fetch_file, load_state, read_state
from vgrpo.rewards.preference.blip import Blip, convert_blip, text_config, vision_config
from vgrpo.rewards.preference.head import score_head
from vgrpo.rewards.preference.pixels import pixel_values

HUB, FILE = "THUDM/ImageReward", "ImageReward.pt"
TOKENIZER = "google-bert/bert-base-uncased"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw scores, as published with the weights
NUM_TOKENS = 35


class ImageReward:
    """Images [B, 3, H, W] and prompts to the standardised score [B], about -2 to 2.

    `source` is a folder with ImageReward.pt and, if it holds a vocab.txt too, BERT's tokenizer.
    """

    __name__ = "imagereward"

    def __init__(self, source: str | None, device: str) -> None:
        from transformers import BertTokenizer, CLIPImageProcessor

        self.device = device_of(device)
        path = fetch_file(source or HUB, (FILE,), "imagereward")
        state = read_state(path)
        blip = {key.removeprefix("blip."): value for key, value in state.items() if key.startswith("blip.")}
        head = {key.removeprefix("mlp."): value for key, value in state.items() if key.startswith("mlp.")}
        if "visual_encoder.pos_embed" not in blip:
            raise ValueError(f"reward imagereward: {path} holds no blip.visual_encoder; is it the published {FILE}?")
        model = Blip(vision_config(blip), text_config(blip))
        load_state(model, convert_blip(blip), "imagereward", path)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.head = score_head(head, model.text.config.hidden_size, "imagereward", path).to(self.device)
        self.tokenizer: Any = fetch(BertTokenizer, beside(source, "vocab.txt", TOKENIZER), "imagereward", "0.3 MB")
        side = model.vision.config.image_size
        self.processor: Any = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @batched
    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        pixels = pixel_values(self.processor, images).to(self.device)
        # [DEC] and [ENC] have rows in the vocabulary, but the published score leaves [CLS] as the first token.
        tokens = self.tokenizer(
            [prompt.text for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=NUM_TOKENS,
            return_tensors="pt",
        ).to(self.device)
        first = self.model(pixels, tokens.input_ids, tokens.attention_mask)[:, 0]
        return (self.head(first)[:, 0] - MEAN) / STD


def imagereward(source: str | None, device: str) -> ImageReward:
    return ImageReward(source, device)
