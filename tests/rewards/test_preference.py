"""The learned preference model of the sprites world: what it learns from, its loss, and the one that ships."""

import json
import random

import pytest
import torch
from torch.nn import functional

from vgrpo.commands.main import main
from vgrpo.core.images import to_pil
from vgrpo.rewards.preference.pixels import pixel_values
from vgrpo.rewards.registry import load_reward
from vgrpo.worlds.sprites.build import build_tokenizer
from vgrpo.worlds.sprites.grammar import TAGS, held_out_prompts, prompt_stream
from vgrpo.worlds.sprites.preference import accuracy, build_clip, embed, make_pairs, preference_loss, spoil
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene
from vgrpo.worlds.sprites.verifier import score


@pytest.fixture(scope="module")
def shipped():
    return load_reward("sprites_preference")


def boards(prompts, seed=0, looseness=0.0):
    rng = random.Random(seed)
    scenes = [sample_scene(prompt, rng, looseness=looseness) for prompt in prompts]
    return render(scenes, torch.Generator().manual_seed(seed))


def test_the_first_board_of_a_pair_is_right_and_the_second_is_not():
    stream = prompt_stream(random.Random(0))
    prompts = [next(stream) for _ in range(140)]
    texts, better, worse = make_pairs(prompts, random.Random(0), torch.Generator().manual_seed(0))
    by_text = {prompt.text: prompt for prompt in prompts}
    kept = [by_text[text] for text in texts]
    assert 70 < len(kept) <= 140
    assert score(better, kept).strict.eq(1).all()
    assert score(worse, kept).reward.lt(1).float().mean() > 0.9  # the rest is spoiled so lightly that it can still be read
    assert (better - worse).abs().flatten(1).mean(1).gt(0.005).all()


def test_spoiled_boards_are_three_kinds_of_bad():
    images = boards(held_out_prompts(8))
    spoiled = spoil(images, torch.Generator().manual_seed(0))
    assert spoiled.shape == images.shape
    assert 0 <= spoiled.min() <= spoiled.max() <= 1
    flat = [(image[:, :, 1:] - image[:, :, :-1]).abs().mean().item() for image in spoiled]
    assert min(flat) < 0.5 * max(flat)  # blurred ones are smooth, noisy ones are not


def test_the_loss_by_plain_loops():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_clip(tokenizer).double()
    prompts = held_out_prompts(1)[:4]
    texts, better, worse = [prompt.text for prompt in prompts], boards(prompts).double(), boards(prompts, 1, 1.0).double()
    with torch.no_grad():
        loss = preference_loss(model, tokenizer, texts, better, worse).item()
        scale = model.logit_scale.exp()
        rows = []
        for text in texts:  # one at a time, so that nothing is padded
            inputs = tokenizer([text], return_tensors="pt")
            rows.append(functional.normalize(model.get_text_features(**inputs).pooler_output[0], dim=0))
        columns = [
            functional.normalize(model.get_image_features(pixel_values=(image[None] - 0.8) / 0.2).pooler_output[0], dim=0)
            for image in [*better, *worse]
        ]
        s = [[float(scale * row @ column) for column in columns] for row in rows]
    choice = text_side = image_side = 0.0
    for i in range(4):
        choice -= torch.tensor([s[i][i], s[i][4 + i]]).log_softmax(0)[0].item() / 4
        text_side -= torch.tensor(s[i][:4]).log_softmax(0)[i].item() / 4
        image_side -= torch.tensor([s[j][i] for j in range(4)]).log_softmax(0)[i].item() / 4
    assert loss == pytest.approx(choice + (text_side + image_side) / 2, abs=1e-5)


def test_the_reward_is_the_cosine(shipped):
    prompts = held_out_prompts(2)
    images = boards(prompts)
    text, image = embed(shipped.model, shipped.processor.tokenizer, [prompt.text for prompt in prompts], images)
    torch.testing.assert_close(shipped(images, prompts), (text * image).sum(-1), atol=0.01, rtol=0)  # it sees 8-bit pictures


def test_images_are_prepared_alike_one_by_one_and_together(shipped):
    torch.manual_seed(0)
    images = torch.rand(20, 3, 48, 40)
    together = shipped.processor(images=[to_pil(image) for image in images], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixel_values(shipped.processor, images), together)


def test_the_shipped_model_tells_right_from_wrong_boards(shipped):
    right = accuracy(shipped.model, shipped.processor.tokenizer, num_per_tag=60)
    assert set(right) == set(TAGS)
    assert min(right.values()) > 0.6, right  # positions; a proxy that errs
    assert sum(right.values()) / len(right) > 0.85, right


def test_a_short_pretraining(tmp_path, capsys):
    folder = tmp_path / "preference"
    arguments = ["pretrain", "preference", "--output-dir", str(folder), "--num-steps", "6", "--batch-size", "16"]
    assert main([*arguments, "--log-every", "2"]) == 0
    lines = [json.loads(line) for line in (folder / "pretrain.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 6]
    assert set(TAGS) <= set(lines[-1])
    reward = load_reward(f"sprites_preference={folder}")
    assert reward(torch.rand(2, 3, 64, 64), held_out_prompts(1)[:2]).shape == (2,)
    assert main(arguments) == 1
    assert "already holds a model" in capsys.readouterr().err
