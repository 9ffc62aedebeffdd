"""GenEval's judge (arXiv:2310.11513): a Mask2Former finds the objects, CLIP ViT-L/14 names their colors, rules do the rest.

The published judge runs Mask2Former Swin-S in mmdetection; this is the same architecture in transformers, with the original
authors' COCO weights. Scores are close but not the same, so compare only numbers of one judge.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.prompts.generators.geneval import COLORS
from vgrpo.rewards.downloads import fetch
from vgrpo.rewards.found import Found, Seen
from vgrpo.rewards.geneval.rules import THRESHOLD, Detection, graded, kept, of_class, strict

DETECTOR, CLIP = "facebook/mask2former-swin-small-coco-instance", "openai/clip-vit-large-patch14"
BATCH = 8
SIDE = 384  # to which the masks are scaled before they are cut
GREY = (153, 153, 153)  # around an object while its color is named
TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")
# GenEval's names where COCO's, or those of older COCO label files, differ.
NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard", "tvmonitor": "tv", "sofa": "couch"}
NAMES |= {"motorbike": "motorcycle", "aeroplane": "airplane", "pottedplant": "potted plant", "diningtable": "dining table"}


Rule = Callable[[list[Detection], dict[str, Any]], float]


class Geneval:
    """Images [B, 3, H, W] and prompts with GenEval's metadata to scores [B]; NaN for a prompt without it.

    `source` is a hub id or folder of a Mask2Former for COCO instances; a subfolder `clip` of it is the CLIPModel.
    """

    def __init__(self, name: str, rule: Rule, source: str | None, device: str) -> None:
        from transformers import AutoImageProcessor, CLIPModel, CLIPProcessor, Mask2FormerForUniversalSegmentation

        self.__name__, self.rule = name, rule
        self.device = device_of(device)
        own, clip = source or DETECTOR, Path(source or "") / "clip"
        detector: Any = fetch(Mask2FormerForUniversalSegmentation, own, name)
        self.detector = detector.to(self.device, torch.float32).eval().requires_grad_(False)
        self.prepare: Any = fetch(AutoImageProcessor, own, name)
        self.labels = {index: NAMES.get(label, label) for index, label in detector.config.id2label.items()}
        where = str(clip) if source is not None and clip.is_dir() else CLIP
        self.clip: Any = fetch(CLIPModel, where, name).to(self.device, torch.float32).eval().requires_grad_(False)
        self.processor: Any = fetch(CLIPProcessor, where, name)
        self.classifiers: dict[str, Tensor] = {}
        self.seen = Seen()

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        scores = torch.full((len(images),), torch.nan)
        rows = torch.tensor([row for row, prompt in enumerate(prompts) if self.judges(prompt)], dtype=torch.long)
        for some in rows.split(BATCH):
            if len(some):
                for row, found in zip(some.tolist(), self.detect(images[some]), strict=True):
                    scores[row] = self.score(images[row], found, prompts[row].metadata)
        return scores

    def judges(self, prompt: Prompt) -> bool:
        """Whether a prompt has metadata. Raises ValueError for a class that the detector does not know."""
        entries = [*prompt.metadata.get("include", ()), *prompt.metadata.get("exclude", ())]
        for entry in entries:
            if entry["class"] not in self.labels.values():
                raise ValueError(f"reward {self.__name__}: the detector knows no {entry['class']!r}")
        return bool(prompt.metadata.get("include"))

    def score(self, image: Tensor, detections: list[Detection], metadata: dict[str, Any]) -> float:
        objects = kept(detections, metadata)
        for label in {entry["class"] for entry in metadata["include"] if "color" in entry}:
            same = of_class(objects, label)
            colors = zip(same, self.colors(image, same), strict=True)
            objects = [detection for detection in objects if detection.label != label]
            objects += [dataclasses.replace(detection, color=color) for detection, color in colors]
        self.seen.keep(image, [_found(detection, image.shape[-2:]) for detection in objects])
        return float(self.rule(objects, metadata))

    def found(self, images: Tensor, prompts: list[Prompt]) -> list[list[Found]]:
        """The objects on images [B, 3, H, W] that were judged, with their colors where the prompt asks for one."""
        return self.seen.of(images)

    def detect(self, images: Tensor) -> list[list[Detection]]:
        """What is on each of the images [B, 3, H, W]."""
        inputs = self.prepare(images=[to_pil(image) for image in images], return_tensors="pt").to(self.device)
        answer, (height, width) = self.detector(pixel_values=inputs.pixel_values), images.shape[-2:]
        return [
            [self.detection(*thing) for thing in zip(*instances(logits, masks, (height, width)), strict=True)]
            for logits, masks in zip(answer.class_queries_logits, answer.masks_queries_logits, strict=True)
        ]

    def detection(self, label: int, score: float, mask: Tensor) -> Detection:
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        return Detection(label=self.labels[label], score=score, box=box, mask=mask)

    def colors(self, image: Tensor, objects: list[Detection]) -> list[str]:
        """The color of each object of one class, cut out along its mask."""
        if not objects:
            return []
        inputs = self.processor(images=[cut_out(image, detection) for detection in objects], return_tensors="pt").to(
            self.device
        )
        features = self.clip.visual_projection(self.clip.vision_model(**inputs).pooler_output)
        return [COLORS[int(index)] for index in (features @ self.classifier(objects[0].label).T).argmax(-1)]

    def classifier(self, label: str) -> Tensor:
        """A direction per color [10, C]: the mean of three phrasings' unit embeddings, scaled to length 1."""
        if label not in self.classifiers:
            texts = [template.format(color=color, label=label) for color in COLORS for template in TEMPLATES]
            length = self.clip.config.text_config.max_position_embeddings
            tokens = self.processor(text=texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
            embedded = self.clip.text_projection(self.clip.text_model(**tokens.to(self.device)).pooler_output)
            mean = torch.nn.functional.normalize(embedded, dim=-1).unflatten(0, (len(COLORS), -1)).mean(1)
            self.classifiers[label] = torch.nn.functional.normalize(mean, dim=-1)
        return self.classifiers[label]


def _found(detection: Detection, size: tuple[int, ...]) -> Found:
    """A detection on an image of a height and width, its score after its name."""
    left, top, right, bottom = detection.box
    label = f"{detection.color or ''} {detection.label} {detection.score:.2f}".strip()
    return Found(label, (left / size[1], top / size[0], right / size[1], bottom / size[0]))


def instances(logits: Tensor, masks: Tensor, size: tuple[int, int]) -> tuple[list[int], list[float], Tensor]:
    """Labels, scores and masks [N, *size] (bool, on the CPU) of one image's objects above the threshold, from its Q queries'
    logits [Q, L + 1] and mask logits [Q, h, w]: the rule of transformers' `post_process_instance_segmentation`, which asks the
    GPU twice for every query and so makes the host wait some 200 times an image."""
    num_queries, num_labels = len(logits), logits.shape[-1] - 1
    share, place = logits.softmax(-1)[:, :-1].flatten().topk(num_queries, sorted=False)
    masks = interpolate(masks[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0][place // num_labels]
    inside = (masks > 0).float()
    sureness = (masks.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    scores, whole = share * sureness, interpolate(inside[None], size, mode="nearest")[0].bool()
    found = (scores >= THRESHOLD) & whole.any((1, 2))
    return (place % num_labels)[found].tolist(), [round(s, 6) for s in scores[found].tolist()], whole[found].cpu()


def cut_out(image: Tensor, detection: Detection) -> Image.Image:
    """The object's box of an image [3, H, W], grey where its mask is off."""
    picture = to_pil(image)
    mask = Image.fromarray(detection.mask.byte().numpy() * 255)
    left, top, right, bottom = map(int, detection.box)
    return Image.composite(picture, Image.new("RGB", picture.size, GREY), mask).crop((left, top, right, bottom))


def geneval(source: str | None, device: str) -> Geneval:
    """With partial credit, to train on."""
    return Geneval("geneval", graded, source, device)


def geneval_strict(source: str | None, device: str) -> Geneval:
    """0 or 1, to compare with."""
    return Geneval("geneval_strict", strict, source, device)
