"""VideoReward (VideoAlign, arXiv:2501.13918): Qwen2-VL-2B with a LoRA and a linear head that scores a video's visual quality,
its motion and how well it shows the text, each at a token of its own in the question.

Published: the weights (KwaiVGI/VideoReward), 2 frames a second of at most 448 x 448 pixels, and the mean and deviation of each
score, which make them comparable; the reward is the sum of the three. The question that it was trained with is its authors';
the one here is in our words. Put theirs into a `question.txt` beside the weights to have their scores.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.downloads import beside, fetch, fetch_folder, load_state, read_state, renamed
from vgrpo.rewards.vlm.qwen2_vl import OLD_NAMES, Patches, Reader, cut, filled, network, own_question, without_peft

HUB, BASE, CONFIG = "KwaiVGI/VideoReward", "Qwen/Qwen2-VL-2B-Instruct", "model_config.json"
WANTED = [CONFIG, "checkpoint-*/model.pth"]
MARKS = ("<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>")
NAMES = ("VQ", "MQ", "TA")
LEAST_AREA, AREA = 128 * 28**2, 448**2  # pixels of a frame
FPS = 16  # of Wan's videos
BATCH = 4
QUESTION = """A video was generated for this text: {prompt}
Rate how good each frame looks: <|VQ_reward|>
how natural and steady its motion is: <|MQ_reward|>
and how well it shows what the text says: <|TA_reward|>
"""


class VideoReward:
    """Videos [B, F, 3, H, W] and prompts to the sum of three standardised scores [B], each about -2 to 2.

    `source` is a folder with model_config.json and checkpoint-STEP/model.pth and, if it holds a config.json too, Qwen2-VL's
    config and tokenizer.
    """

    __name__ = "videoreward"
    judges_videos = True

    def __init__(self, source: str | None, device: str) -> None:
        from transformers import AutoTokenizer

        folder = fetch_folder(source or HUB, WANTED, "videoreward")
        settings = json.loads((folder / CONFIG).read_text())
        path = max(folder.glob(WANTED[1]), key=lambda each: int(each.parent.name.split("-")[1]))
        state = without_peft(read_state(path), _scale(settings["peft_lora_config"]))
        base = beside(source, "config.json", BASE)
        weight = state.pop("rm_head.weight", torch.empty(1, 0))
        head = nn.Linear(weight.shape[1], len(weight), bias=False)
        load_state(head, {"weight": weight.float()}, "videoreward", path)
        tokenizer: Any = fetch(AutoTokenizer, base, "videoreward", "7 MB")
        self.device = device_of(device)
        model = network(renamed(state, OLD_NAMES), base, "videoreward", path)
        self.reader = Reader(model, head, tokenizer, MARKS, "video", self.device)
        self.model, self.head, self.question = self.reader.model, head, own_question(source, QUESTION, MARKS, "videoreward")
        self.fps = float(settings["data_config"]["fps"])
        moments = settings.get("inference_config") or {}
        self.mean, self.std = (
            torch.tensor([moments.get(f"{name}_{kind}", neutral) for name in NAMES])
            for kind, neutral in (("mean", 0.0), ("std", 1.0))
        )

    def __call__(self, videos: Tensor, prompts: list[Prompt]) -> Tensor:
        return self.dimensions(videos, prompts).sum(1)

    def dimensions(self, videos: Tensor, prompts: list[Prompt]) -> Tensor:
        """Visual quality, motion and text alignment, standardised, [B, 3]."""
        texts, parts = [filled(self.question, prompt.text) for prompt in prompts], []
        for start in range(0, len(videos), BATCH):
            seen = [self._seen(video) for video in videos[start : start + BATCH]]
            answer = self.reader(
                seen, texts[start : start + BATCH]
            ).cpu()  # [B, 3, N]: one score for all marks, or one for each
            parts.append(answer[..., 0] if answer.shape[-1] == 1 else answer.diagonal(dim1=1, dim2=2))
        return (torch.cat(parts) - self.mean) / self.std

    def _seen(self, video: Tensor) -> Patches:
        """Evenly chosen frames: an even number, at least 4 where there are as many."""
        num_frames = max(4, 2 * round(len(video) / FPS * self.fps / 2))
        chosen = torch.linspace(0, len(video) - 1, min(num_frames, len(video))).round().long()
        return cut([to_pil(frame) for frame in video[chosen]], LEAST_AREA, AREA)


def _scale(lora: dict[str, Any]) -> float:
    rank = lora["lora_r"]
    return float(lora["lora_alpha"] / (rank**0.5 if lora.get("use_rslora") else rank))


def videoreward(source: str | None, device: str) -> VideoReward:
    return VideoReward(source, device)
