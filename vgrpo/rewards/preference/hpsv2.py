"""HPSv2.1 (arXiv:2306.09341): the cosine of a CLIP ViT-H/14 tuned on human preferences, from the published checkpoint."""

from typing import Any

from PIL import Image
from torch import Tensor

from vgrpo.rewards.downloads import beside, fetch, fetch_file, load_state, read_state
from vgrpo.rewards.preference.clip import ClipCosine
from vgrpo.rewards.preference.open_clip import convert_open_clip

HUB, FILE = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
CLIP = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # the same architecture: its config, tokenizer and preprocessing


class Hpsv2(ClipCosine):
    """Images [B, 3, H, W] and prompts to the raw cosine [B], near 0.3.

    `source` is a folder with the checkpoint and, if it holds a config.json too, CLIP ViT-H/14's config and processor.
    """

    def __init__(self, source: str | None, device: str) -> None:
        from transformers import CLIPConfig, CLIPModel, CLIPProcessor

        path = fetch_file(source or HUB, (FILE,), "hpsv2")
        clip = beside(source, "config.json", CLIP)
        model: Any = CLIPModel(fetch(CLIPConfig, clip, "hpsv2", "5 kB"))
        load_state(model, convert_open_clip(read_state(path)), "hpsv2", path)
        super().__init__("hpsv2", model, fetch(CLIPProcessor, clip, "hpsv2", "4 MB"), device)

    def picture(self, image: Tensor) -> Image.Image:
        """The longer side to the model's size and black beside the shorter: nothing is cut off."""
        picture = super().picture(image)
        side = self.model.config.vision_config.image_size
        width, height = (round(length * side / max(picture.size)) for length in picture.size)
        sheet = Image.new("RGB", (side, side))
        sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), ((side - width) // 2, (side - height) // 2))
        return sheet


def hpsv2(source: str | None, device: str) -> Hpsv2:
    return Hpsv2(source, device)
