"""Vision-language judges on tiny random models of the published classes and formats, against their networks asked by hand."""

import pytest
import torch
from helpers.reward_models import IMAGES, PROMPTS
from helpers.vlm import letters, save_hpsv3, save_llava, save_videoreward
from torch.nn.functional import linear
from transformers import AutoProcessor, LlavaForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vgrpo.core.images import to_pil
from vgrpo.rewards.base import RewardError, judge_images
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.vlm import hpsv3, local_judge, videoreward
from vgrpo.rewards.vlm.qwen2_vl import cut

QUESTION = "Does this show {prompt}?"


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    (folder / "judge.yaml").write_text(f"model: {folder}\nquestion: {QUESTION!r}\npixels: 32\nbatch_size: 2\n")
    return folder


def test_a_local_judge_gives_the_share_of_yes(llava):
    judge = load_reward(f"local_judge={llava}/judge.yaml", "cpu")
    scores = judge(IMAGES, PROMPTS)
    model, processor = LlavaForConditionalGeneration.from_pretrained(llava).eval(), AutoProcessor.from_pretrained(llava)
    words = {word: processor.tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "\u0120Yes", "yes", "No", "\u0120No")}
    expected = []
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        text = f"<|im_start|><|vision_start|><|image_pad|><|vision_end|>Does this show {prompt.text}?<|im_end|>"
        inputs = processor(text=text, images=to_pil(image).resize((32, 32), 3), return_tensors="pt")
        with torch.no_grad():
            share = model(**inputs).logits[0, -1].double().softmax(0)
        yes = sum(share[words[word]] for word in ("Yes", "\u0120Yes", "yes"))
        expected.append(float(yes / (yes + sum(share[words[word]] for word in ("No", "\u0120No")))))
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-3


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("question: Is it?", "lacks model"),
        ("model: m\nquestion: Is it?", "must hold {prompt}"),
        ("model: nowhere/at-all\nquestion: Is it {prompt}?", "no model at nowhere/at-all"),
        ("model: m\nquestion: '{prompt}?'\npixels: 0", "pixels=0: must lie in 1 to 4096"),
    ],
)
def test_what_is_no_local_judge_is_refused(tmp_path, monkeypatch, lines, problem):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "judge.yaml").write_text(lines)
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        load_reward(f"local_judge={tmp_path}/judge.yaml", "cpu")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_reward(f"local_judge={tmp_path}/none.yaml", "cpu")


def test_a_tokenizer_without_yes_is_refused(llava, tmp_path):
    letters().save_pretrained(tmp_path)
    judge = local_judge.LocalJudgeSettings(model=str(llava), question=QUESTION)
    processor = AutoProcessor.from_pretrained(llava)
    processor.tokenizer = letters()
    LlavaForConditionalGeneration.from_pretrained(llava).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no token for Yes and No"):
        local_judge.LocalJudge(local_judge.LocalJudgeSettings(model=str(tmp_path), question=judge.question), "cpu")


@pytest.mark.parametrize("size", [(70, 90), (300, 40), (33, 33)])
def test_pictures_are_cut_as_qwen2_vls_processor_does(size):
    picture = to_pil(torch.rand(3, *size, generator=torch.Generator().manual_seed(0)))
    theirs = Qwen2VLImageProcessorPil(min_pixels=56**2, max_pixels=112**2)(images=[picture], return_tensors="pt")
    ours = cut([picture], 56**2, 112**2)
    assert list(ours.grid) == theirs.image_grid_thw[0].tolist()
    assert torch.allclose(ours.values, theirs.pixel_values, atol=1e-5)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(hpsv3, "AREA", 4 * 28**2)
    monkeypatch.setattr(hpsv3, "BATCH", 2)


def test_hpsv3_is_the_head_on_the_marked_token(tmp_path, small):
    model, head = save_hpsv3(tmp_path)
    (tmp_path / "question.txt").write_text("Prompt {prompt} rated <|Reward|> so")
    reward = load_reward(f"hpsv3={tmp_path}", "cpu")
    scores = reward.distribution(IMAGES, PROMPTS)
    tokenizer = letters()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    mark = tokenizer.convert_tokens_to_ids("<|Reward|>")
    for row, (image, prompt) in enumerate(zip(IMAGES, PROMPTS, strict=True)):
        seen = Qwen2VLImageProcessorPil(min_pixels=4 * 28**2, max_pixels=4 * 28**2)(images=[to_pil(image)], return_tensors="pt")
        places = "<|image_pad|>" * (int(seen.image_grid_thw.prod()) // 4)
        text = f"<|im_start|><|vision_start|>{places}<|vision_end|>Prompt {prompt.text} rated <|Reward|> so<|im_end|>"
        ids = tokenizer(text, return_tensors="pt").input_ids
        positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
        with torch.no_grad():
            states = model(input_ids=ids, position_ids=positions, **seen).last_hidden_state
        value = states[ids == mark][0]
        for place in (0, 3, 5):
            value = linear(value, head[f"rm_head.{place}.weight"], head[f"rm_head.{place}.bias"])
            value = value if place == 5 else value.relu()
        assert scores[row].tolist() == pytest.approx([float(value[0]), float(value[1].exp())], rel=1e-3, abs=1e-3)
    assert torch.equal(reward(IMAGES, PROMPTS), scores[:, 0])
    assert scores[:, 0].std() > 1e-3


def test_hpsv3_refuses_other_weights_and_questions(tmp_path, small):
    save_hpsv3(tmp_path)
    assert load_reward(f"hpsv3={tmp_path}", "cpu").question == hpsv3.QUESTION
    (tmp_path / "question.txt").write_text("How good is {prompt}?")
    with pytest.raises(ValueError, match=r"must hold \{prompt\}, and once each <\|Reward\|>"):
        load_reward(f"hpsv3={tmp_path}", "cpu")
    (tmp_path / "HPSv3.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no HPSv3\.safetensors"):
        load_reward(f"hpsv3={tmp_path}", "cpu")


@pytest.mark.parametrize("outputs", [1, 3])
def test_videoreward_is_the_head_on_its_three_tokens(tmp_path, monkeypatch, outputs):
    monkeypatch.setattr(videoreward, "AREA", 4 * 28**2)
    monkeypatch.setattr(videoreward, "LEAST_AREA", 4 * 28**2)
    model, head = save_videoreward(tmp_path, outputs)
    (tmp_path / "question.txt").write_text("{prompt}: <|VQ_reward|> <|MQ_reward|> <|TA_reward|>")
    reward = load_reward(f"videoreward={tmp_path}", "cpu")
    videos = torch.rand(3, 5, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    scores = reward.dimensions(videos, PROMPTS)
    tokenizer = letters()
    tokenizer.add_special_tokens({"additional_special_tokens": list(videoreward.MARKS)})
    marks = torch.tensor(tokenizer.convert_tokens_to_ids(list(videoreward.MARKS)))
    for row, (video, prompt) in enumerate(zip(videos, PROMPTS, strict=True)):
        patches = cut([to_pil(video[frame]) for frame in (0, 1, 3, 4)], 4 * 28**2, 4 * 28**2)
        assert patches.grid == (2, 4, 4)
        places, asked = "<|video_pad|>" * 8, f"{prompt.text}: {' '.join(videoreward.MARKS)}"
        text = f"<|im_start|><|vision_start|>{places}<|vision_end|>{asked}<|im_end|>"
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            states = model(
                input_ids=ids,
                position_ids=torch.arange(ids.shape[1]).expand(3, 1, -1),
                pixel_values_videos=patches.values,
                video_grid_thw=torch.tensor([patches.grid]),
            ).last_hidden_state[torch.isin(ids, marks)]
        raw = [float(states[place] @ head[place % outputs]) for place in range(3)]
        expected = [(raw[0] - 1) / 2, (raw[1] - 0.5) / 1.5, raw[2] / 3]
        assert scores[row].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert torch.allclose(reward(videos, PROMPTS), scores.sum(1))
    assert not torch.allclose(reward(videos.flip(1), PROMPTS), scores.sum(1), atol=1e-3)  # it sees the motion
    with pytest.raises(RewardError, match="videoreward judges videos, and these are images"):
        judge_images(reward, videos[:, -1], PROMPTS)
