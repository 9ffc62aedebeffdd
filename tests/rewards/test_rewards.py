"""Named rewards against independent computations, on tiny random models of the published architecture."""

import base64
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
import torch
import yaml
from helpers.reward_models import IMAGES, PROMPTS, clip_pixels, save_clip
from PIL import Image
from transformers import CLIPModel

from vgrpo import Prompt
from vgrpo.rewards.batches import batched
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.text.ocr import quoted, spelling, targets
from vgrpo.worlds.sprites.build import build_tokenizer
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


def cosine(folder, image, text):
    """One image and text at a time, through the two towers."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = torch.tensor([build_tokenizer()(text).input_ids])
    with torch.no_grad():
        a = model.visual_projection(model.vision_model(clip_pixels(image)).pooler_output)[0].double()
        b = model.text_projection(model.text_model(tokens).pooler_output)[0].double()
    return float(a @ b / a.norm() / b.norm()), float(model.logit_scale.detach().exp())


@pytest.mark.parametrize("name", ["clipscore", "pickscore"])
def test_clip_rewards_are_the_published_formula(name, clip_folder):
    got = load_reward(f"{name}={clip_folder}")(IMAGES, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        value, scale = cosine(clip_folder, IMAGES[index], prompt.text)
        expected = value if name == "clipscore" else scale * value / 26
        assert float(got[index]) == pytest.approx(expected, abs=2e-3)


def test_a_reward_computes_where_it_is_told_to(clip_folder, monkeypatch):
    monkeypatch.setattr(
        "vgrpo.rewards.preference.clip.device_of", torch.device
    )  # which refuses "meta", a device that computes nothing
    monkeypatch.setattr("vgrpo.rewards.registry.device_of", lambda *_: None)
    for device in ("cpu", "meta"):
        reward = load_reward(f"clipscore={clip_folder}", device)
        assert {reward.device.type, *(weight.device.type for weight in reward.model.parameters())} == {device}


def test_missing_weights_are_named_with_their_size_and_a_command(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"PickScore_v1 \(3.9 GB\).*hf download yuvalkirstain/PickScore_v1"):
        load_reward("pickscore")


def test_jpeg_rewards_weigh_the_file():
    smooth = torch.full((1, 3, 64, 64), 0.5)
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = torch.cat([smooth, noise])
    got = load_reward("jpeg_incompressibility")(images, PROMPTS[:2])
    for index, image in enumerate(images):
        buffer = BytesIO()
        array = (image.permute(1, 2, 0).numpy() * 255).round().astype("uint8")
        Image.fromarray(array).save(buffer, "JPEG", quality=95)
        assert float(got[index]) == pytest.approx(len(buffer.getvalue()) / 1000, abs=0.02)
    assert got[1] > 3 * got[0]
    assert torch.equal(load_reward("jpeg_compressibility")(images, PROMPTS[:2]), -got)


class Answers(BaseHTTPRequestHandler):
    """A server that answers by what the question says, and fails first where told."""

    failures = 0
    requests: tuple = ()  # those that were answered, newest last

    def do_GET(self):
        self._send({"data": []})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        picture, question = request["messages"][0]["content"]
        image = Image.open(BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1])))
        Answers.requests = (*Answers.requests, (request, image))
        if "flaky" in question["text"] and Answers.failures < 2:
            Answers.failures += 1
            self.send_error(500)
        elif "slow" in question["text"]:
            time.sleep(1.5)
        elif "nonsense" in question["text"]:
            self._answer("I like it.")
        elif "too high" in question["text"]:
            self._answer("Final Score: 11")
        else:
            self._answer(f"Bright. Final Score: {1 + 4 * np.asarray(image).mean() / 255:.3f}")

    def _answer(self, text):
        self._send({"choices": [{"message": {"content": text}}]})

    def _send(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("vgrpo.rewards.served.judge.PAUSE", 0.01)
    Answers.failures, Answers.requests = 0, ()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def judge_file(tmp_path, server):
    path = tmp_path / "judge.yaml"
    settings = {"url": server, "model": "m", "question": "How good is {prompt}?"}
    path.write_text(yaml.safe_dump(settings | {"pixels": 64, "timeout": 0.5, "num_tries": 3}))
    return path


def test_a_judge_scores_and_what_it_cannot_score_is_nan(judge_file):
    reward = load_reward(f"judge={judge_file}")
    texts = ["a heart", "a flaky star", "nonsense", "too high", "slow"]
    images = torch.full((5, 3, 64, 64), 0.5)
    got = reward(images, [Prompt(text=text) for text in texts])
    assert got[:2].tolist() == pytest.approx([3.0, 3.0], abs=0.02)
    assert got[2:].isnan().all()
    assert {(image.size, request["temperature"]) for request, image in Answers.requests} == {((64, 64), 0)}


def test_unifiedreward_is_a_judge_with_the_published_settings(server):
    reward = load_reward(f"unifiedreward={server}")
    images = torch.stack([torch.full((3, 64, 64), value) for value in (1.0, 0.5, 0.5, 0.5)])
    got = reward(images, [Prompt(text=text) for text in ("a heart", "a flaky star", "nonsense", "too high")])
    assert got[:2].tolist() == pytest.approx([5.0, 3.0], abs=0.02)
    assert got[2:].isnan().all()
    for request, image in Answers.requests:
        assert (request["model"], request["temperature"]) == ("CodeGoat24/UnifiedReward-7b-v1.5", 0)
        assert (image.format, image.size) == ("PNG", (512, 512))
    asked = [request["messages"][0]["content"][1]["text"] for request, _ in Answers.requests]
    assert any('for this caption: "a heart"' in text for text in asked)
    assert all(text.endswith("\nFinal Score: X") for text in asked)


def test_unifiedreward_without_its_server_says_how_to_start_one():
    with pytest.raises(ValueError, match=r"unifiedreward=http://localhost:8000; start one with `vllm serve CodeGoat24"):
        load_reward("unifiedreward")
    with pytest.raises(ConnectionError, match=r"reward unifiedreward: no server answers at http://.*:9 .*vllm serve Code"):
        load_reward("unifiedreward=http://127.0.0.1:9")
    with pytest.raises(ValueError, match="must begin with http"):
        load_reward("unifiedreward=localhost:8000")


def test_a_judge_that_is_down_or_ill_described_is_refused(tmp_path, judge_file):
    values = yaml.safe_load(judge_file.read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(values | {"url": "http://127.0.0.1:9"}))
    with pytest.raises(ConnectionError, match=r"no server answers at http://127.0.0.1:9.*vllm serve m"):
        load_reward(f"judge={path}")
    path.write_text(yaml.safe_dump(values | {"question": "How good?"}))
    with pytest.raises(ValueError, match=r"must hold \{prompt\}"):
        load_reward(f"judge={path}")
    path.write_text(yaml.safe_dump({"url": "http://x"}))
    with pytest.raises(ValueError, match="lacks model, question"):
        load_reward(f"judge={path}")
    path.write_text(yaml.safe_dump(values | {"tries": 3}))
    with pytest.raises(ValueError, match="unknown setting judge tries: did you mean judge num_tries"):
        load_reward(f"judge={path}")


def word_board(word):
    prompt = Prompt(text=f'the word "{word}"', metadata={"tag": "text", "text": word})
    return prompt, render([sample_scene(prompt, random.Random(1))], torch.Generator().manual_seed(1))


def test_ocr_reads_the_worlds_own_letters():
    reward = load_reward("ocr")
    boards = [word_board(word) for word in ("NAP", "TAXI", "BED", "POD")]
    images = torch.cat([board for _, board in boards])
    right = reward(images, [prompt for prompt, _ in boards])
    wrong = reward(images, [boards[(index + 1) % 4][0] for index in range(4)])
    assert right.mean() > 0.9
    assert wrong.mean() < 0.5
    assert reward(torch.full((1, 3, 64, 64), 0.8), [boards[0][0]]).item() == 0
    assert reward(images[:1], [Prompt(text="a heart")]).isnan().all()


@pytest.mark.parametrize(
    ("read", "text", "score"),
    [
        ("CAT", '"CAT"', 1.0), ("the c a t", 'say "Cat" now', 1.0), ("CUT", '"CAT"', 2 / 3), ("", '"CAT"', 0.0),
        ("xxxxxxxx", '"CAT"', 0.0), ("HELLOWORLD", '"Hello World"', 1.0), ("HELO", '"HELLO"', 0.8),
    ],
)  # fmt: skip
def test_the_spelling_score_is_the_published_one(read, text, score):
    assert spelling(read, quoted(text)) == pytest.approx(score)


def test_a_large_rollout_reaches_a_model_in_batches():
    sizes = []

    class Model:
        @batched
        def __call__(self, images, prompts):
            assert [prompt.text for prompt in prompts] == [f"{value:g}" for value in images[:, 0, 0, 0].tolist()]
            sizes.append(len(images))
            return images.mean((1, 2, 3))

    images = torch.arange(150.0)[:, None, None, None].expand(-1, 3, 2, 2)
    values = Model()(images, [Prompt(text=str(index)) for index in range(150)])
    assert torch.equal(values, torch.arange(150.0))
    assert sizes == [64, 64, 22]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a sign "Open" and a poster "Big Sale"', ["open", "bigsale"]),
        ("a sign \u201cOpen\u201d", ["open"]),
        ("ein Schild \u201eOffen\u201c", ["offen"]),
        ("une affiche \xab Ouvert \xbb", ["ouvert"]),
        ("\u300c\u5f00\u95e8\u300d and \u300e\u5173\u300f", ["\u5f00\u95e8", "\u5173"]),
        ("a baker's sign 'Open' and 'Don't'", ["open", "don't"]),
        ("a sign \u2018It\u2019s open\u2019", ["it\u2019sopen"]),
        ("the dogs' bowl and a cat's bed", []),
        ('a baker\'s sign "Open"', ["open"]),
        ('a sign " "', []),
    ],
)
def test_targets_in_all_usual_quotes(text, found):
    assert targets(text) == found


@pytest.mark.parametrize(
    ("read", "score"), [("SALE OPEN", 1.0), ("OPEN", 0.5), ("OPEN SOLE", 0.875), ("", 0.0), ("OPEN OPEN", 0.5)]
)
def test_several_targets_count_by_their_length(read, score):
    assert spelling(read, "open", "sale") == pytest.approx(score)
