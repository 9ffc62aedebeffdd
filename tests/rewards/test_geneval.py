"""GenEval's rules on cases worked out by hand, and the judge around them on tiny random models."""

import random
import shutil

import numpy as np
import pytest
import torch
from helpers.reward_models import save_clip
from PIL import Image
from transformers import CLIPModel, CLIPProcessor, Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers import Mask2FormerImageProcessor as Processor

from vgrpo import Prompt
from vgrpo.prompts.generators.geneval import CLASSES, COLORS, SHARES, sample_prompt
from vgrpo.rewards.geneval.detector import NAMES, cut_out, instances
from vgrpo.rewards.geneval.rules import THRESHOLD, Detection, graded, kept, relations, strict
from vgrpo.rewards.registry import load_reward


def thing(label, box=(0, 0, 10, 10), color=None, score=0.95):
    return Detection(label=label, box=box, color=color, score=score)


def one(label, **more):
    return {"class": label, "count": 1, **more}


LEFT, RIGHT = (0, 20, 10, 30), (50, 20, 60, 30)
CUP, TWO_CUPS = {"include": [one("cup")]}, {"include": [{"class": "cup", "count": 2}]}
COW_RIGHT_OF_CUP = {"include": [one("cup"), one("cow", position=["right of", 0])]}
RED_CUP, TWO_COLORS = {"include": [one("cup", color="red")]}, {"include": [one("cup", color="red"), one("cow", color="blue")]}
TWO_RED_CUPS = {"include": [{"class": "cup", "count": 2, "color": "red"}]}
EXACTLY_TWO = {**TWO_CUPS, "exclude": [{"class": "cup", "count": 3}], "tag": "counting"}
RED, BLUE = thing("cup", color="red"), thing("cup", color="blue")

CASES = [
    # one object: more of it do no harm to the strict score; the graded one counts 3 instead of 1 as 1 - 2
    ([thing("cup")], CUP, True, 1.0),
    ([], CUP, False, 0.0),
    ([thing("cow")], CUP, False, 0.0),
    ([thing("cup")] * 3, CUP, True, -1.0),
    # two objects: half of what is asked for
    ([thing("cup")], {"include": [one("cup"), one("cow")]}, False, 0.5),
    ([thing("cup"), thing("cow")], {"include": [one("cup"), one("cow")]}, True, 1.0),
    # counting
    ([thing("cup")], EXACTLY_TWO, False, 0.5),
    ([thing("cup")] * 2, EXACTLY_TWO, True, 1.0),
    ([thing("cup")] * 3, EXACTLY_TWO, False, 0.5),
    # colors: the count earns its half, the color the other
    ([RED], RED_CUP, True, 1.0),
    ([BLUE], RED_CUP, False, 0.5),
    ([], RED_CUP, False, 0.0),
    ([RED, BLUE], RED_CUP, True, 0.0),
    ([RED, BLUE], TWO_RED_CUPS, False, 0.75),
    # color attribution: the colors changed over
    ([RED, thing("cow", color="blue")], TWO_COLORS, True, 1.0),
    ([BLUE, thing("cow", color="red")], TWO_COLORS, False, 0.5),
    # position: three things are asked for, two counts and the relation
    ([thing("cup", LEFT), thing("cow", RIGHT)], COW_RIGHT_OF_CUP, True, 1.0),
    ([thing("cup", RIGHT), thing("cow", LEFT)], COW_RIGHT_OF_CUP, False, 2 / 3),
    ([thing("cow", RIGHT)], COW_RIGHT_OF_CUP, False, 1 / 3),
    ([thing("cup", LEFT), thing("cow", RIGHT), thing("cow", RIGHT)], COW_RIGHT_OF_CUP, True, 1 / 3),
]  # fmt: skip


@pytest.mark.parametrize(("found", "metadata", "right", "credit"), CASES)
def test_the_scores_of_cases_worked_out_by_hand(found, metadata, right, credit):
    assert strict(kept(found, metadata), metadata) is right
    assert graded(kept(found, metadata), metadata) == pytest.approx(credit)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (LEFT, RIGHT, {"left of"}),
        (RIGHT, LEFT, {"right of"}),
        ((20, 0, 30, 10), (20, 50, 30, 60), {"above"}),
        ((20, 50, 30, 60), (20, 0, 30, 10), {"below"}),
        ((0, 0, 10, 10), (50, 50, 60, 60), {"left of", "above"}),  # offset -50, -50; 48 of a length of 70.7 is over half
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
        ((0, 0, 10, 10), (2, 0, 12, 10), set()),  # 2 pixels apart, a tenth of 10 and 10 taken off: nothing is left
        ((0, 0, 10, 10), (3, 0, 13, 10), set()),  # 3 apart leaves 1, which is not half of 3
        ((0, 0, 10, 10), (5, 0, 15, 10), {"left of"}),  # 5 apart leaves 3
        ((0, 0, 100, 10), (30, 0, 130, 10), set()),  # wide ones: 30 apart leaves 10
        ((0, 0, 10, 10), (50, 20, 60, 30), {"left of"}),  # 18 up of a length of 53.9 is under half
    ],
)
def test_positions_leave_a_margin_of_the_sizes(a, b, expected):
    assert relations(a, b) == expected


def test_what_is_kept_depends_on_score_and_tag():
    detections = [thing("cup", score=score) for score in (0.2, 0.95, 0.3, 0.5)]
    assert [detection.score for detection in kept(detections, CUP)] == [0.95, 0.5]
    assert [detection.score for detection in kept(detections, EXACTLY_TWO)] == [0.95]
    many = [thing("cup", score=0.5 + index / 100) for index in range(20)] + [thing("cow", score=0.4)]
    assert len(kept(many, CUP)) == 17
    assert min(detection.score for detection in kept(many, CUP)[:16]) == 0.54


def test_the_surest_objects_are_judged():
    sure_blue = [thing("cup", color="red", score=0.5), thing("cup", color="blue", score=0.9)]
    assert not strict(kept(sure_blue, RED_CUP), RED_CUP)


@pytest.mark.parametrize("tag", [*SHARES, "single_object"])
def test_sampled_prompts_are_right_for_what_they_ask_and_wrong_for_nothing(tag):
    places = {"left of": (LEFT, RIGHT), "right of": (RIGHT, LEFT)}
    places |= {"above": ((0, 0, 10, 10), (0, 50, 10, 60)), "below": ((0, 50, 10, 60), (0, 0, 10, 10))}
    for seed in range(20):
        metadata = sample_prompt(random.Random(seed), tag).metadata
        relation = metadata["include"][-1].get("position", ("left of",))[0]
        boxes = places[relation][::-1]  # the later entry stands in that relation to the earlier one
        asked = list(zip(metadata["include"], boxes, strict=False))
        found = [thing(entry["class"], box, entry.get("color")) for entry, box in asked for _ in range(entry["count"])]
        assert strict(found, metadata)
        assert graded(found, metadata) == 1
        assert not strict(found[1:], metadata)
        assert graded(found[1:], metadata) < 1
    assert set(NAMES.values()) <= set(CLASSES)


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory):
    """A tiny Mask2Former whose class scores are spread out, with a CLIP beside it."""
    folder = tmp_path_factory.mktemp("geneval")
    torch.manual_seed(0)
    backbone = SwinConfig(image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4)
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    sizes = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32)
    sizes |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2}
    config = Mask2FormerConfig(backbone_config=backbone, num_attention_heads=2, num_queries=6, **sizes)
    config.id2label = {0: "cup", 1: "mouse", 2: "cow"}
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.weight.data *= 40
    model.save_pretrained(folder)
    Processor(size={"height": 64, "width": 64}).save_pretrained(folder)
    save_clip(folder / "clip", num_tokens=64)  # the vocabulary spells most words letter by letter
    return folder


IMAGES = torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def picture(image):
    return Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))


@torch.no_grad()
def detect_by_hand(folder, image):
    """(label, score, box) above 0.3 from the raw network: best classes of all queries, times the mean probability inside."""
    values = np.asarray(picture(image).resize((64, 64), Image.BILINEAR)) / 255
    values = (values - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    output = model(pixel_values=torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None])
    masks = torch.nn.functional.interpolate(output.masks_queries_logits, size=(384, 384), mode="bilinear")[0]
    classes = output.class_queries_logits[0].softmax(-1)[:, :3]
    found = []
    for flat in classes.flatten().argsort(descending=True)[:6]:
        query, label = divmod(int(flat), 3)
        inside = masks[query] > 0
        score = float(classes[query, label] * masks[query].sigmoid()[inside].mean())
        rows, columns = np.nonzero(inside[:: 384 // 48, :: 384 // 64].numpy())
        if score > 0.3 and len(rows):
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            found.append((("cup", "computer mouse", "cow")[label], round(score, 4), tuple(map(float, box))))
    return sorted(found)


def test_detections_are_the_networks(judge_folder):
    judge = load_reward(f"geneval={judge_folder}")
    with torch.no_grad():
        found = judge.detect(IMAGES)
    total = 0
    for image, detections in zip(IMAGES, found, strict=True):
        expected = detect_by_hand(judge_folder, image)
        got = sorted((detection.label, round(detection.score, 4), detection.box) for detection in detections)
        assert [(label, box) for label, _, box in got] == [(label, box) for label, _, box in expected]
        assert [score for _, score, _ in got] == pytest.approx([score for _, score, _ in expected], abs=0.02)
        total += len(got)
    assert total > 3


def test_the_detector_sees_pictures_of_its_published_size(judge_folder, tmp_path):
    """The published one's is a shortest side of 800 pixels and a longest of at most 1333, whatever the images' own."""
    shutil.copytree(judge_folder, tmp_path / "judge")
    Processor(size={"shortest_edge": 96, "longest_edge": 112}).save_pretrained(tmp_path / "judge")
    judge, seen = load_reward(f"geneval={tmp_path / 'judge'}"), []
    judge.detector.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(kwargs["pixel_values"].shape[-2:])), with_kwargs=True
    )
    for shape in ((48, 48), (48, 64), (200, 200)):
        judge.detect(torch.rand(1, 3, *shape))
    padded = [(96, 96), (96, 128), (96, 96)]  # 48 x 64 becomes 84 x 112, and both sides are filled up to multiples of 32
    assert seen == padded


@torch.no_grad()
def directions_by_hand(folder, label):
    """[10, C], a phrase at a time."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    rows = []
    for color in COLORS:
        phrases = (f"a photo of a {color} {label}", f"a photo of a {color}-colored {label}", f"a photo of a {color} object")
        units = []
        for phrase in phrases:
            tokens = processor(text=phrase, truncation=True, max_length=64, return_tensors="pt")
            feature = model.text_projection(model.text_model(**tokens).pooler_output)[0]
            units.append(feature / feature.norm())
        mean = torch.stack(units).mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def test_colors_are_clips_choice_for_the_cut_out(judge_folder):
    judge = load_reward(f"geneval={judge_folder}")
    mask = torch.zeros(48, 64, dtype=torch.bool)
    mask[10:30, 20:50] = True
    mask[10:20, 20:30] = False
    detection = Detection(label="cow", score=0.9, box=(20, 10, 50, 30), mask=mask)
    crop = np.full((20, 30, 3), 153, dtype="uint8")
    pixels = np.asarray(picture(IMAGES[0]))[10:30, 20:50]
    crop[10:], crop[:, 10:] = pixels[10:], pixels[:, 10:]
    assert np.array_equal(np.asarray(cut_out(IMAGES[0], detection)), crop)
    expected = directions_by_hand(judge_folder / "clip", "cow")
    model, processor = (kind.from_pretrained(judge_folder / "clip") for kind in (CLIPModel, CLIPProcessor))
    with torch.no_grad():
        got = judge.classifier("cow")
        inputs = processor(images=Image.fromarray(crop), return_tensors="pt")
        scores = expected @ model.eval().visual_projection(model.vision_model(**inputs).pooler_output)[0]
        assert judge.colors(IMAGES[0], [detection]) == [COLORS[int(scores.argmax())]]
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.pdist(expected).min() > 1e-4


def test_the_judge_scores_batches_and_leaves_out_what_it_cannot_judge(judge_folder):
    judge, exact = load_reward(f"geneval={judge_folder}"), load_reward(f"geneval_strict={judge_folder}")
    with torch.no_grad():
        found = judge.detect(IMAGES)
    label = found[0][0].label
    metadata = {"tag": "colors", "include": [{"class": label, "count": 1, "color": "red"}]}
    colored = judge.colors(IMAGES[0], [max(kept(found[0], metadata), key=lambda d: (d.label == label, d.score))])
    metadata["include"][0]["color"] = colored[0]
    prompts = [Prompt(text="x", metadata=metadata), Prompt(text="a heart"), Prompt(text="x", metadata=metadata)]
    assert exact(IMAGES, prompts).tolist() == pytest.approx(
        [1.0, float("nan"), exact(IMAGES[2:], prompts[2:]).item()], nan_ok=True
    )
    assert judge(IMAGES, prompts)[1].isnan()
    with pytest.raises(ValueError, match=r"the detector knows no 'unicorn'"):
        judge(IMAGES[:1], [Prompt(text="x", metadata={"include": [one("unicorn")]})])


def test_a_missing_detector_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"\(2.0 GB\).*hf download facebook/mask2former-swin-small-coco-instance"):
        load_reward("geneval")


def test_objects_are_those_that_transformers_finds(judge_folder):
    model, processor = (
        Mask2FormerForUniversalSegmentation.from_pretrained(judge_folder),
        Processor.from_pretrained(judge_folder),
    )
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer = model(pixel_values=pixels)
    theirs = processor.post_process_instance_segmentation(
        answer, threshold=THRESHOLD, target_sizes=[(48, 40)] * 3, return_binary_maps=True
    )
    for logits, masks, their in zip(answer.class_queries_logits, answer.masks_queries_logits, theirs, strict=True):
        labels, scores, ours = instances(logits, masks, (48, 40))
        assert labels == [info["label_id"] for info in their["segments_info"]]
        assert scores == [info["score"] for info in their["segments_info"]]
        assert not labels or torch.equal(ours, their["segmentation"].bool())
    assert any(their["segments_info"] for their in theirs)
