"""A run in the terminal: the panel and its times, plain lines, JSON, silence."""

import io
import json
from pathlib import Path

import pytest
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.commands.console import RunConsole
from vgrpo.commands.json_lines import JsonLines, event_line
from vgrpo.commands.main import main
from vgrpo.commands.panel import PLAIN, RunPanel, sparkline
from vgrpo.commands.screen import Screen
from vgrpo.commands.timing import BASE, TUNED, Timing, spelled
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.training import loop
from vgrpo.training.loop import train
from vgrpo.training.record.events import (
    AlarmRaised,
    IterationDone,
    Noticed,
    PhaseAdvanced,
    PhaseBegan,
    PhaseEnded,
    RunFinished,
    RunStarted,
    RunStopped,
    Steered,
)
from vgrpo.training.start import Given
from vgrpo.workbench.report import ReportFile


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def started(folder="runs/x", past=(), iterations=10):
    config = tiny_config(None, num_iterations=iterations)
    return RunStarted(folder=Path(folder), config=config, iteration=len(past), past=list(past))


def done(iteration, reward=0.5):
    return IterationDone(
        iteration=iteration, values={"reward/mean": reward, "images_per_second": 8.0, "seconds/checkpoint": 0.0}
    )


def told(hear, clock, *steps):
    """Seconds that pass before each event, and the events."""
    for seconds, event in steps:
        clock.now += seconds
        hear(event)


def test_a_phase_with_parts_is_timed_by_them_and_another_by_the_last_time():
    clock = Clock()
    timing = Timing(clock)
    told(timing.hear, clock, (0, started()), (0, PhaseBegan(name=BASE)), (0, PhaseAdvanced(name=BASE, done=0, total=40)))
    assert (timing.phase_left, timing.phase_share, timing.left) == (None, None, None)
    told(timing.hear, clock, (5, PhaseAdvanced(name=BASE, done=10, total=40)))
    assert timing.phase_left == 15
    clock.now += 3  # between two parts
    assert timing.phase_left == 12
    assert timing.phase_share == pytest.approx(8 / 20)
    told(timing.hear, clock, (12, PhaseEnded(name=BASE, seconds=20)), (0, PhaseBegan(name="reward")))
    assert timing.phase_left is None  # it never was complete
    told(timing.hear, clock, (4, PhaseEnded(name="reward", seconds=4)), (2, done(0)), (0, PhaseBegan(name="reward")))
    assert timing.phase_left == 4
    clock.now += 9  # longer than the last time: never less than nothing
    assert timing.phase_left == 0
    assert timing.phase_share == 1


def test_the_time_left_of_a_run_holds_its_last_evaluation():
    clock = Clock()
    timing = Timing(clock)
    told(timing.hear, clock, (0, started(iterations=4)), (0, PhaseBegan(name=BASE)), (20, PhaseEnded(name=BASE, seconds=20)))
    told(timing.hear, clock, (6, done(0)))
    assert timing.left == 3 * 6 + 20
    clock.now += 2
    assert timing.left == 3 * 6 - 2 + 20
    pause, resume = (Steered(command=command, iteration=1) for command in ("pause", "resume"))
    told(timing.hear, clock, (0, pause), (1000, resume), (4, done(1)))
    assert timing.left == 2 * 6 + 20  # a pause is no measure of an iteration
    told(
        timing.hear,
        clock,
        (6, done(2)),
        (6, done(3)),
        (0, PhaseBegan(name=TUNED)),
        (5, PhaseAdvanced(name=TUNED, done=1, total=4)),
    )
    assert timing.left == 15


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"), (9000, "2 h 30 min")]
)
def test_durations_for_people(seconds, text):
    assert spelled(seconds) == text


def test_a_sparkline_shows_the_shape():
    assert sparkline([], 8) == ""
    assert sparkline([0.5], 8) == "▁"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([index // 10 for index in range(80)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, 0], 8, PLAIN) == "#_"


def panel_lines(width, encoding="utf-8", **fields):
    clock = Clock()
    panel = RunPanel(Timing(clock))
    told(panel.timing.hear, clock, (0, started()), (7, done(0)), (7, done(1)), (0, PhaseBegan(name="rollout")))
    told(panel.timing.hear, clock, (3, PhaseAdvanced(name="rollout", done=1, total=2)))
    panel.begin("runs/" + "x" * 100)
    panel.rewards = [0.1 * index for index in range(200)]
    for name, value in fields.items():
        setattr(panel, name, value)
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Screen(file=file, width=width, force_terminal=True, color_system=None).print(panel)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_panel_keeps_within_80_columns(width, encoding):
    lines = panel_lines(width, encoding, now="reward 0.5 " * 20, alarm="pickscore falls while the reward is up, iteration 9")
    assert {len(line) for line in lines} == {min(80, width)}
    text = "\n".join(lines)
    assert ("▁" in text) == (encoding == "utf-8")
    for part in ("reward", "iteration 2/10", "drawing", "3 s left", "53 s left", "alarm: pickscore falls", "...xx"):
        assert part in text, part
    assert len(lines) == 7


def test_a_paused_run_says_how_to_go_on():
    assert any("paused" in line and "resume goes on" in line for line in panel_lines(80, paused=True))


def plain_run(clock, *steps):
    screen = Screen(file=io.StringIO(), width=200)
    console = RunConsole(screen, clock)
    told(console, clock, *steps)
    return screen.file.getvalue()


def test_plain_lines_tell_how_long_an_evaluation_and_a_long_phase_take():
    text = plain_run(
        Clock(),
        (0, started()),
        (0, PhaseBegan(name=BASE, detail="400 images")),
        *[(10 if done else 0, PhaseAdvanced(name=BASE, done=done, total=400)) for done in range(0, 400, 40)],
        (10, PhaseEnded(name=BASE, seconds=110)),
        *[step for index in range(5) for step in ((2, PhaseBegan(name="rollout")), (0, done(index, 0.1 * index)))],
        (0, PhaseBegan(name="rollout")),
        (35, PhaseAdvanced(name="rollout", done=8, total=80)),
        (35, done(5)),
        (0, Steered(command="lr", iteration=6, value=1e-4, note="calmer")),
        (0, AlarmRaised(monitor="sharpness", iteration=5)),
        (0, RunStopped(folder=Path("runs/x"), reason="", checkpoint=None)),
    )
    assert text.splitlines()[:10] == [
        "run folder runs/x",
        f"{BASE}, 400 images",
        f"{BASE}: about 2 min in all, 2 min left",
        f"{BASE}: 160/400, 1 min left",
        f"{BASE}: 280/400, 30 s left",
        "iteration 1/10  reward 0.000 (start 0.000)  8 images/s  2 min left",
        "iteration 5/10  reward 0.164 (start 0.000)  8 images/s  2 min left",
        "rollout: 8/80, 5 min left",
        "iteration 6/10  reward 0.231 (start 0.000)  8 images/s  3 min left",
        "asked for lr 0.0001 after iteration 6: calmer",
    ]
    assert "alarm: sharpness falls while the reward is up, iteration 6" in text
    assert "vgrpo train runs/x/config.yaml --resume" in text


def test_a_terminal_gets_a_live_panel_and_the_lines_above_it():
    clock = Clock()
    screen = Screen(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console = RunConsole(screen, clock)
    told(console, clock, (0, started()), (0, done(0)), (0, Noticed(text="a [red] notice")))
    console.live.refresh()
    told(console, clock, (0, RunFinished(evaluation={}, weights=Path("w"), folder=Path("f"))))
    text = screen.file.getvalue()
    assert "a [red] notice" in text
    assert "╭─ runs/x ─" in text
    assert not console.live.is_started
    assert text.index("╰") < text.index("weights  w")


def test_an_event_as_json():
    line = json.loads(event_line(started(past=[{"reward/mean": 0.5}]), 12.5))
    assert (line["event"], line["time"], line["iteration"], line["folder"]) == ("run_started", 12.5, 1, "runs/x")
    assert line["config"]["rollout"]["group_size"] == 4
    assert "past" not in line
    line = json.loads(event_line(done(0, float("nan")), 1.0))
    assert line["values"]["reward/mean"] is None


def test_json_lines_are_all_that_is_printed(tmp_path, capsys):
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    settings = EvalConfig(num_prompts=4, num_images=2, num_sample_prompts=1, num_steps=1, batch_size=3)
    config = tiny_config(tmp_path / "run", num_iterations=1, eval=settings, held_out_prompts=1)
    train(config, given, listeners=[JsonLines()])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [line["event"] for line in lines]
    order = [name for name in names if not name.startswith(("phase_", "noticed"))]
    saved, drawn = "checkpoint_saved", "samples_drawn"
    assert order == ["run_started", saved, drawn, "iteration_done", drawn, saved, "run_finished"]
    evaluated = [(line["done"], line["total"]) for line in lines if line["event"] == "phase_advanced" and line["name"] == BASE]
    assert evaluated == [(0, 2)]  # one prompt was held out
    assert lines[-1]["weights"] == str(tmp_path / "run/lora")


@pytest.mark.parametrize(("flags", "listener"), [([], RunConsole), (["--json"], JsonLines), (["--quiet"], None)])
def test_who_listens_to_vgrpo_train(tmp_path, monkeypatch, flags, listener):
    heard = []
    monkeypatch.setattr(loop, "train", lambda config, given, *, listeners, **options: heard.extend(listeners))
    assert main(["train", "sprites", *flags, "--output-dir", str(tmp_path / "run")]) == 0
    assert [type(found) for found in heard] == [ReportFile, *([listener] if listener else [])]


def test_quiet_and_json_exclude_each_other(capsys):
    assert main(["train", "sprites", "--quiet", "--json"]) == 2
    assert "--quiet and --json" in capsys.readouterr().err
