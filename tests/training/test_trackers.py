"""What reaches TensorBoard, Weights & Biases and trackio, also of a run that was stopped and goes on."""

import json
import sqlite3
import struct
import sys

import pytest
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.training.loop import train
from vgrpo.training.record.events import IterationDone, Noticed, RunStarted
from vgrpo.training.record.sinks import SINKS
from vgrpo.training.record.trackers import Tracker, score_rows
from vgrpo.training.start import Given

STRICT = {"strict": 0.25, "reward": 0.5}
SCORES = STRICT | {"by_category": {"colors": STRICT}}


class Kill(BaseException):
    pass


def stopped_and_resumed(folder, tracker):
    """Four iterations; the first process is killed after the third, and the second goes on from after the second."""
    settings = {
        "num_iterations": 4,
        "checkpoint_every": 2,
        "trackers": (tracker,),
        "eval": EvalConfig(num_prompts=0, num_sample_prompts=2, num_steps=2, sample_every=2),
    }

    def kill(event):
        if isinstance(event, IterationDone) and event.iteration == 2:
            raise Kill

    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    with pytest.raises(Kill):  # heard after the tracker, which has the third iteration
        train(tiny_config(folder, **settings), given, listeners=[Late(kill)])
    heard = []
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    train(tiny_config(folder, **settings), given, resume=True, listeners=[heard.append])
    assert isinstance(next(event for event in heard if not isinstance(event, Noticed)), RunStarted)
    assert not [event.text for event in heard if isinstance(event, Noticed) and "failed" in event.text]
    return [json.loads(line)["reward/mean"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Late:
    """Hears an event's successor: what the listeners after it do with an iteration has then been done."""

    def __init__(self, listener):
        self.listener, self.waiting = listener, None

    def __call__(self, event):
        if self.waiting is not None:
            self.listener(self.waiting)
        self.waiting = event


def test_tensorboard_goes_on_where_the_run_goes_on(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rewards = stopped_and_resumed(tmp_path / "run", "tensorboard")
    curves = EventAccumulator(str(tmp_path / "run/tensorboard"))
    curves.Reload()
    assert [point.step for point in curves.Scalars("reward/mean")] == [1, 2, 3, 4]
    assert [point.value for point in curves.Scalars("reward/mean")] == pytest.approx(rewards)
    assert [point.value for point in curves.Scalars("lr")] == pytest.approx([1e-3] * 4)
    images = sorted(curves.Tags()["images"])
    assert [name[:11] for name in images] == ["samples/00 ", "samples/01 "]
    assert [picture.step for picture in curves.Images(images[0])] == [0, 2, 4]
    assert curves.Images(images[0])[0].width > 4 * 64  # framed


def records_of(path):
    """Of an offline file: LevelDB's log format, blocks of 32 KiB with records in parts, after a header of 7 bytes."""
    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def test_wandb_goes_on_where_the_run_goes_on(tmp_path, monkeypatch):
    """Offline: each process has a file of its own, of one and the same run, and no step is in two of them."""
    wandb = pytest.importorskip("wandb", reason='pip install "vgrpo[wandb]"')
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    rewards = stopped_and_resumed(tmp_path / "run", "wandb")
    wandb.teardown()  # as at a process's end: until then wandb's own process may hold back what it writes
    found, ids, keys = {}, set(), set()
    for path in sorted((tmp_path / "run/wandb").glob("offline-run-*/*.wandb")):
        for data in records_of(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            keys.update(items)
            if "reward/mean" in items:
                step = record.history.step.num or int(items["_step"])
                assert step not in found
                found[step] = json.loads(items["reward/mean"])
    assert len(ids) == 1
    assert list(found) == [1, 2, 3, 4]
    assert list(found.values()) == pytest.approx(rewards)
    assert "samples" in keys


def test_trackio_goes_on_where_the_run_goes_on(tmp_path, monkeypatch):
    home = tmp_path / "trackio"
    monkeypatch.setenv("TRACKIO_DIR", str(home))  # read when it is imported
    pytest.importorskip("trackio", reason='pip install "vgrpo[trackio]"')
    rewards = stopped_and_resumed(tmp_path / "run", "trackio")
    (database,) = home.glob("vgrpo*.db")
    rows = sqlite3.connect(database).execute("select step, run_name, metrics from metrics order by id").fetchall()
    lines = [(step, json.loads(metrics)) for step, _, metrics in rows]
    curve = [(step, values["reward/mean"]) for step, values in lines if "reward/mean" in values]
    assert [step for step, _ in curve] == [1, 2, 3, 4]
    assert [value for _, value in curve] == pytest.approx(rewards)
    assert len({name for _, name, _ in rows}) == 1
    assert [step for step, values in lines if "samples/00" in values] == [0, 2, 4]


def test_a_tracker_that_fails_ends_no_run(tmp_path, monkeypatch):
    class Broken:
        sent = -1

        def __init__(self, *_):
            pass

        def numbers(self, values, step):
            raise ConnectionError("gone")

    monkeypatch.setitem(SINKS, "wandb", Broken)
    notes = []
    tracker = Tracker("wandb", tmp_path, {}, 0, notes.append)
    for iteration in range(3):
        tracker(IterationDone(iteration=iteration, values={"reward/mean": 0.5}))
    assert notes == ["the tracker wandb failed and gets nothing more: ConnectionError('gone')"]


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r'trackers=tensorboard, but it is not installed: pip install "vgrpo\[tensorboard\]"'):
        train(tiny_config(tmp_path / "run", trackers=("tensorboard",)), Given(pipeline=tiny_pipeline(), reward=red))
    assert not (tmp_path / "run").exists()


def test_held_out_scores_as_a_table():
    columns, rows = score_rows({"num_prompts": 1, "base": SCORES, "tuned": SCORES | {"reward": None}})
    assert columns == ["category", "strict, base", "strict, tuned", "reward, base", "reward, tuned"]
    assert rows == [["colors", 0.25, 0.25, 0.5, 0.5], ["all", 0.25, 0.25, 0.5, None]]
    assert score_rows({"base": {"reward": 0.5, "by_category": {}}}) == (["category", "reward, base"], [["all", 0.5]])
