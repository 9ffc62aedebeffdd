"""Rewards that judge a prompt's images together."""

import pytest
import torch
from helpers.reward_models import clip_pixels, save_clip
from transformers import CLIPModel

from vgrpo import Prompt
from vgrpo.rewards.base import RewardError, score_images
from vgrpo.rewards.calls import limited
from vgrpo.rewards.groups import GroupReward
from vgrpo.rewards.registry import load_reward


def test_diversity_is_the_distance_to_the_others_of_the_prompt(tmp_path):
    save_clip(tmp_path)
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[4] = images[2]
    prompts = [Prompt(text=text) for text in "abaaa"]  # groups need not be neighbours
    scores = score_images(load_reward(f"diversity={tmp_path}", "cpu"), images, prompts)
    model = CLIPModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        pooled = [model.vision_model(pixel_values=clip_pixels(image)).pooler_output for image in images]
        features = [model.visual_projection(each)[0].double() for each in pooled]
    cosine = torch.nn.functional.cosine_similarity
    for row in (0, 2, 3, 4):
        others = [cosine(features[row], features[other], dim=0) for other in (0, 2, 3, 4) if other != row]
        assert scores[row].item() == pytest.approx(1 - float(sum(others)) / 3, abs=1e-5)
    assert scores[2] == pytest.approx(scores[4].item(), abs=1e-6)
    assert scores[1].isnan()  # alone


class Broken(GroupReward):
    def __init__(self):
        self.sizes = []

    def score_group(self, images, prompt):
        self.sizes.append(len(images))
        raise OSError("down")


@pytest.mark.parametrize("seconds", [None, 20.0])
def test_a_group_is_never_halved(seconds):
    reward = Broken()
    with pytest.raises(RewardError, match="down"):
        score_images(limited(reward, seconds), torch.rand(4, 3, 4, 4), [Prompt(text="a")] * 4)
    assert reward.sizes == [4]
