"""What a page asks to be done: a run that goes on is steered, and a checkpoint is exported."""

import json
import threading

import pytest
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.training.control.requests import FOLDER
from vgrpo.training.loop import train
from vgrpo.training.record.events import IterationDone
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.start import Given

ORIGIN = {"origin": "http://127.0.0.1:8470"}


def ask(client, run, command, **rest):
    return client.post(f"/api/runs/{run}/steering", json={"command": command, **rest}, headers=ORIGIN)


def only(client):
    (run,) = client.get("/api/runs").json()["runs"]
    return run["id"]


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """A run that waits after its second iteration, to be steered, until `go` is set."""
    folder, waits, go = tmp_path_factory.mktemp("steered") / "runs", threading.Event(), threading.Event()

    def listen(event):
        if isinstance(event, IterationDone) and event.iteration == 1:
            waits.set()
            assert go.wait(60)

    config = tiny_config(
        folder / "a",
        num_iterations=5,
        checkpoint_every=2,
        keep_checkpoints=9,
        update=UpdateConfig(lr=0.05),
        eval=EvalConfig(num_prompts=0, num_sample_prompts=2, num_steps=2, sample_every=2),
    )
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    thread = threading.Thread(target=lambda: train(config, given, listeners=[listen]), daemon=True)
    thread.start()
    assert waits.wait(60)
    yield folder, go, thread
    go.set()
    thread.join(60)


def test_a_run_is_steered_from_the_page(served, steered):
    folder, go, thread = steered
    client = served(folder)
    run = only(client)
    path = f"/api/runs/{run}/steering"
    assert client.get(path).json() == {"why": "", "paused": False, "asked": [], "log": []}
    assert ask(client, run, "lr", value=2e-3, note="it oscillates").json()["asked"][0]["state"] == "waiting"
    taken_back = ask(client, run, "stop").json()["asked"][1]["name"]
    assert ask(client, run, "checkpoint").status_code == 200
    asked = client.post(f"{path}/{taken_back}", json={}, headers=ORIGIN).json()["asked"]
    assert [(each["command"], each["state"]) for each in asked] == [
        ("lr", "waiting"),
        ("stop", "withdrawn"),
        ("checkpoint", "waiting"),
    ]
    assert len(list((folder / "a" / FOLDER).iterdir())) == 2
    for content, text in (
        ({"command": "lr", "value": 0}, "must be a learning rate above 0"),
        ({"command": "lr", "value": "fast"}, "must be a learning rate above 0"),
        ({"command": "explode"}, "a run can be asked to"),
        ({}, "a run can be asked to"),
        ({"command": ["pause"]}, "a run can be asked to"),
        ({"command": "pause", "note": "x" * 501}, "at most 500 characters"),
    ):
        answer = client.post(path, json=content, headers=ORIGIN)
        assert (answer.status_code, text in answer.text) == (409, True), answer.text
    assert client.post(path, json=[1], headers=ORIGIN).status_code == 400
    assert client.post(path, json={"command": "stop"}, headers=ORIGIN | {"origin": "http://evil.example"}).status_code == 403
    go.set()
    thread.join(60)
    found = client.get(path).json()
    assert "is finished" in found["why"]
    assert [each["state"] for each in found["asked"]] == ["done", "withdrawn", "done"]
    assert "learning rate 0.05 -> 0.002, after iteration 2" in found["asked"][0]["text"]
    assert [(line["command"], line["value"], line["note"]) for line in found["log"]] == [
        ("lr", 2e-3, "it oscillates"),
        ("checkpoint", None, ""),
    ]
    refused = ask(client, run, "pause")
    assert (refused.status_code, "is finished" in refused.text) == (409, True)


def test_the_held_out_curve_and_the_checkpoints_that_are_kept(served, steered):
    folder, go, thread = steered
    go.set()
    thread.join(60)
    client = served(folder)
    found = client.get(f"/api/runs/{only(client)}/held-out").json()
    assert (found["iterations"], found["kept"], found["newest"]) == ([0, 2, 4, 5], [2, 4, 5], True)
    rewards = json.loads((folder / "a/samples/000004/scores.json").read_text())["reward"]
    assert found["columns"]["reward"][2] == pytest.approx(sum(map(sum, rewards)) / 8)
    assert (found["num_prompts"], found["num_images"]) == (2, 8)


def test_a_checkpoint_is_exported_with_its_card(served, steered):
    folder, go, thread = steered
    go.set()
    thread.join(60)
    client = served(folder)
    path = f"/api/runs/{only(client)}/export"
    send = lambda **content: client.post(path, json=content, headers=ORIGIN)  # noqa: E731
    newest, last, earlier = (send(format="diffusers", iteration=number).json()["folder"] for number in (None, 5, 4))
    assert newest == str(folder / "a/export-diffusers")
    assert last == str(folder / "a/export-diffusers-000005")
    first, second, third = (load_file(f"{each}/pytorch_lora_weights.safetensors") for each in (newest, last, earlier))
    assert all(value.equal(second[name]) for name, value in first.items())
    assert first.keys() == third.keys()
    assert not all(value.equal(third[name]) for name, value in first.items())
    card = (folder / "a/export-diffusers-000004/README.md").read_text()
    assert "4, an earlier checkpoint of the run" in card
    assert "Of 8 sample pictures of 2 prompts" in card
    assert "pictures/after-01.png" in card
    done = send(format="peft", dtype="bf16").json()
    assert done["command"] == f"vgrpo export {folder}/a --format peft --dtype bf16"
    for content, text in (
        ({"format": "lycoris"}, "a format is one of diffusers, comfyui, kohya, peft"),
        ({"iteration": 3}, "holds no checkpoint of iteration 3; there are 0, 2, 4, 5"),
        ({"iteration": 1.5}, "an iteration is a whole number"),
        ({"format": "kohya"}, ""),
    ):
        assert text in send(**content).text
    (folder / "a/export-comfyui").symlink_to(folder.parent)
    assert "leads out of the run's folder" in send(format="comfyui").text
    settings = folder / "a/config.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("name: vgrpo", "name: evil:Objective"))
    assert "to read them runs its code" in send().text
    settings.write_text(text)
