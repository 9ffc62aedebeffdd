"""A run that is steered from outside, and what a resume makes of it."""

import json
import os
import threading
from contextlib import closing

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.commands.main import main
from vgrpo.models.weight_sets import trainable
from vgrpo.support.interrupts import StopRequested
from vgrpo.support.lock import RunLock, holder_of
from vgrpo.training.control.requests import FOLDER, Request, answer_to, clear, pending, send, withdraw
from vgrpo.training.control.steering import Steering
from vgrpo.training.loop import train
from vgrpo.training.record.events import Events, IterationDone, Steered
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.start import Given, start_run


def given():
    return Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)


def lines_of(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def asking(folder, at, *requests):
    """A listener that asks for something when iteration `at` is done; returns it and the requests' names."""
    names = []

    def listen(event):
        if isinstance(event, IterationDone) and event.iteration == at:
            names.extend(send(folder, request) for request in requests)

    return listen, names


def weights(result):
    return torch.cat([value.detach().flatten() for value in trainable(result.pipeline.transformer).values()])


def test_a_new_learning_rate_is_noted_and_outlives_a_kill(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    request = Request(command="lr", value=2e-4, note="it oscillates, token=hf_" + "aB3dEfGh" * 4)
    heard = []
    listen, names = asking(whole, 0, request)
    undisturbed = train(tiny_config(whole, num_iterations=3), given(), listeners=[listen, heard.append])
    reply = answer_to(whole, names[0])
    assert (reply.text, reply.iteration, reply.done) == ("learning rate 0.001 -> 0.0002", 1, True)
    assert [line["lr"] for line in lines_of(whole)] == [1e-3, 2e-4, 2e-4]
    (line,) = lines_of(whole, "steering.jsonl")
    assert (line["command"], line["value"], line["iteration"]) == ("lr", 2e-4, 1)
    assert "it oscillates" in line["note"]
    assert "aB3dEfGh" not in line["note"]
    assert [event.note for event in heard if isinstance(event, Steered)] == [line["note"]]

    class Kill(BaseException):
        pass

    def kill(event):
        if isinstance(event, IterationDone) and event.iteration == 1:
            raise Kill  # between the new rate's own checkpoint and the next one

    with pytest.raises(Kill):
        train(tiny_config(cut, num_iterations=3), given(), listeners=[asking(cut, 0, request)[0], kill])
    resumed = train(tiny_config(cut, num_iterations=3), given(), resume=True)
    assert [line["lr"] for line in lines_of(cut)] == [1e-3, 2e-4, 2e-4]
    assert torch.equal(weights(resumed), weights(undisturbed))
    changed = tiny_config(cut, num_iterations=4, update=UpdateConfig(lr=5e-4))
    train(changed, given(), resume=True, allow_changes=True)
    assert lines_of(cut)[-1]["lr"] == 5e-4  # a setting that is changed for a resume comes after what was steered


def test_pause_sample_checkpoint_resume_stop_in_their_order(tmp_path):
    run = start_run(tiny_config(tmp_path / "run"), given())
    with closing(run):
        stale = send(run.folder, Request(command="stop"))
        later = iter([["sample", "checkpoint"], ["resume"]])
        naps = []

        def sleep(seconds):
            naps.append(seconds)
            names.extend(send(run.folder, Request(command=command)) for command in next(later))

        steering = Steering(run, sleep)  # what an earlier process was asked is gone
        assert not withdraw(run.folder, stale)
        names = [send(run.folder, Request(command="pause"))]
        steering.obey()
        replies = [answer_to(run.folder, name).text for name in names]
        folder = run.folder
        assert replies == [
            "paused",
            f"drew {folder / 'samples/000000'}",
            f"saved {folder / 'checkpoints/iteration-000000'}",
            "goes on",
        ]
        assert len(naps) == 2
        assert (folder / "samples/000000/00.png").exists()
        assert (folder / "checkpoints/iteration-000000").exists()
        name = send(folder, Request(command="stop"))
        with pytest.raises(StopRequested, match="vgrpo ctl"):
            steering.obey()
        assert "--resume goes on" in answer_to(folder, name).text
        assert [line["command"] for line in lines_of(folder, "steering.jsonl")] == "pause sample checkpoint resume stop".split()
        assert list((folder / FOLDER).iterdir()) == []


def test_requests_that_are_none_are_refused_and_harm_nothing(tmp_path):
    run = start_run(tiny_config(tmp_path / "run"), given(), events=Events())
    with closing(run):
        steering = Steering(run)
        (run.folder / FOLDER).mkdir()
        (tmp_path / "secret").write_text('{"command": "stop"}')
        (run.folder / FOLDER / "request-0.json").symlink_to(tmp_path / "secret")
        bad = ["{", "[]", '{"command": "rm"}', '{"command": "lr"}', '{"command": "lr", "value": NaN}', '{"command": ["lr"]}']
        bad += ['{"command": "lr", "value": true}', '{"command": "stop", "value": 1}', '{"x": 1}', "[" * 9000, "1" * 20_000]
        for number, text in enumerate(bad, 1):
            (run.folder / FOLDER / f"request-{number}.json").write_text(text)
        os.mkfifo(run.folder / FOLDER / "request-99.json")
        steering.obey()
        assert list(pending(run.folder)) == []
        assert not any(answer_to(run.folder, str(number)).done for number in (*range(len(bad) + 1), 99))
        assert not (run.folder / "steering.jsonl").exists()
        assert run.optimizer.lr == 1e-3


def test_files_behind_a_link_are_left_alone(tmp_path):
    """A folder that comes from elsewhere may name any other for its requests."""
    (tmp_path / "mine").mkdir()
    kept = tmp_path / "mine/request-notes.json"
    kept.write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FOLDER).symlink_to(tmp_path / "mine")
    clear(tmp_path / "run")
    assert kept.exists()
    assert not (tmp_path / "run" / FOLDER).is_symlink()


@pytest.mark.parametrize(("value", "fits"), [(1e-4, True), (0.0, False), (-1.0, False), (2000.0, False), (float("inf"), False)])
def test_a_learning_rate_is_checked_before_it_is_sent(value, fits):
    if fits:
        Request(command="lr", value=value)
    else:
        with pytest.raises(ValueError, match="must be a learning rate above 0"):
            Request(command="lr", value=value)


def test_the_command_waits_for_the_answer(tmp_path, capsys):
    """A run in a thread, which stops for the command."""
    folder, steered = tmp_path / "run", threading.Event()
    heard = []

    def listen(event):
        heard.append(event)
        if isinstance(event, IterationDone):
            steered.wait(30)

    def work():
        with pytest.raises(StopRequested):
            train(tiny_config(folder, num_iterations=1000), given(), listeners=[listen])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not any(isinstance(event, IterationDone) for event in heard):
            assert thread.is_alive()
            thread.join(0.05)
        assert holder_of(folder)["pid"] == os.getpid()
        assert main(["ctl", str(folder), "lr", "1e-5", "--timeout", "0.3"]) == 1  # it is in the middle of an iteration
        assert "no answer within 0.3 s, so the request is taken back" in capsys.readouterr().err
        steered.set()
        assert main(["ctl", str(folder), "lr", "1e-4", "--note", "why not"]) == 0
        assert capsys.readouterr().out.startswith("learning rate 0.001 -> 0.0001, after iteration ")
        assert main(["ctl", str(folder), "stop"]) == 0
    finally:
        steered.set()
        thread.join(60)
    assert not thread.is_alive()
    assert [(event.command, event.note) for event in heard if isinstance(event, Steered)] == [("lr", "why not"), ("stop", "")]
    capsys.readouterr()
    assert main(["ctl", str(folder), "pause"]) == 1
    assert f"no process works in {folder}; go on with it: vgrpo train" in capsys.readouterr().err


def test_a_request_that_a_beginning_run_drops_is_not_waited_for(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("")
    monkeypatch.setattr("vgrpo.commands.ctl.send", lambda folder, request: "gone by now")
    with RunLock(tmp_path):
        assert main(["ctl", str(tmp_path), "pause", "--timeout", "0"]) == 1
    assert "was beginning and dropped the request; ask again" in capsys.readouterr().err


def test_what_cannot_be_steered_is_said_in_one_line(tmp_path, capsys):
    for words, status, text in (
        ([str(tmp_path), "pause"], 1, "holds no run"),
        ([str(tmp_path)], 2, "name one run's folder and what it shall do"),
        ([str(tmp_path), "explode"], 2, "'explode' is nothing that a run does"),
        ([str(tmp_path), "lr"], 2, "lr None: must be a learning rate above 0"),
        ([str(tmp_path), "lr", "fast"], 2, "'lr fast' is nothing that a run does"),
        ([str(tmp_path), "pause", "1"], 2, "pause 1: only lr takes a value"),
        ([str(tmp_path), "pause", "--timeout", "soon"], 2, "--timeout soon: give seconds"),
        ([str(tmp_path), "pause", "--note", "x" * 501], 2, "at most 500 characters"),
    ):
        assert main(["ctl", *words]) == status
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "finished").write_text("3\n")
    assert main(["ctl", str(tmp_path), "pause"]) == 1
    assert "is finished; a larger --num-iterations" in capsys.readouterr().err


def test_who_works_in_a_folder(tmp_path):
    assert holder_of(tmp_path) is None
    with RunLock(tmp_path):
        assert holder_of(tmp_path)["pid"] == os.getpid()
    assert holder_of(tmp_path) is None
    (tmp_path / ".lock").write_text('{"pid": 99999999, "host": "' + os.uname().nodename + '"}')
    assert holder_of(tmp_path) is None  # it was killed
    (tmp_path / ".lock").write_text('{"pid": 99999999, "host": "elsewhere"}')
    assert holder_of(tmp_path) is not None
    (tmp_path / ".lock").write_text("[1]")
    assert holder_of(tmp_path) is None
