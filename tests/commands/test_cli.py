"""The command line as a user types it."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

import vgrpo
from vgrpo import Config, Curriculum
from vgrpo.commands.console import RunConsole
from vgrpo.commands.main import _show, main
from vgrpo.commands.screen import Screen
from vgrpo.commands.tables import results_table
from vgrpo.commands.words import options_of, read_words
from vgrpo.recipes import RECIPES
from vgrpo.training.record.events import AlarmRaised

QUICK = "--num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 4 --rollout.num-steps 3 --eval.num-prompts 7"
QUICK += " --eval.num-images 1 --eval.num-steps 2 --eval.num-sample-prompts 2"


def fails(capsys, line):
    """Run a command that must fail; returns what it said."""
    assert main(line.split()) in (1, 2)
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        ("trian", ["no command 'trian'; did you mean train"]),
        ("train sprits", ["no recipe 'sprits': did you mean sprites"]),
        ("train zzz", ["no recipe 'zzz': known are sprites, vgrpo-fast,", "given by its path"]),
        ("train --num-iteration 3", ["num-iteration", "--num-iterations"]),
        ("train --seed zero", ["seed", "zero"]),
        ("train --reward sprite", ["unknown reward 'sprite': did you mean sprites"]),
        ("train --reward zzz", ["unknown reward 'zzz': known are sprites, sprites_strict,", "Your own is given as"]),
        ("train --reward nowhere:judge", ["'nowhere:judge'", "nowhere.py in this folder"]),
        ("train --prompts missing.txt", ["no prompt file missing.txt"]),
        ("train --rollout.group-size 1", ["group_size=1", "at least 2"]),
        ("train --objective.num-probes 50", ["num_probes=50", "num_timesteps=40"]),
        ("train --objective.ratio-clip 2", ["ratio_clip=2", "(0, 1)"]),
        ("train --objective.soft-clip -1", ["soft_clip=-1", "above 0"]),
        ("train --objective mixgrop", ["unknown objective 'mixgrop': did you mean mixgrpo"]),
        ("train --model {tmp}", ["not a diffusers pipeline"]),
        ("train --lora.targets to_z --output-dir {tmp}/run", ["'to_z' matches no linear layer"]),
        ("train --resume", ["--resume: name the run"]),
        ("train --num-frames 17 --output-dir {tmp}/run", ["num_frames=17: a StableDiffusion3Pipeline draws single images"]),
        ("sample --prompts {tmp}/none.txt --output-dir {tmp}/out", ["no prompt file"]),
        ("sample --prompts {tmp}/empty.txt --output-dir {tmp}/out", ["is empty"]),
        ("sample --prompts {tmp}/p.txt --output-dir {tmp}/out --lora {tmp}", ["pytorch_lora_weights.safetensors"]),
        ("report {tmp}", ["is not a run's folder"]),
        ("serve-reward sprites --port 99999", ["--port 99999: must lie in 0 to 65535"]),
        ("pretrain dragons", ["nothing called 'dragons'", "preference"]),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, line, messages):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "p.txt").write_text("a heart\n")
    said = fails(capsys, line.format(tmp=tmp_path))
    for message in messages:
        assert message in said


@pytest.mark.parametrize("command", ["train", "sample", "eval", "pretrain"])
def test_help_teaches(capsys, command):
    assert main([command, "--help"]) == 0
    assert "--output-dir" in capsys.readouterr().out


def test_help_names_every_option_that_is_taken(capsys):
    assert main(["train", "--help"]) == 0
    explained = set(re.findall(r"--[a-z0-9.-]+", capsys.readouterr().out))
    assert "--task-" in explained  # NAME.prompts and the rest, for any number of tasks
    for option in options_of(Config, RECIPES["sprites"]):
        if option.path == ("tasks",):
            continue
        assert option.name in explained
        assert option.kind is not bool or option.negated in explained


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_can_be_typed_as_it_is(name):
    """A setting whose type the command line cannot read would fail here."""
    job = RECIPES[name]
    config = job.stages[0].config if isinstance(job, Curriculum) else job
    for option in options_of(Config, config):
        value = config
        for field in option.path:
            value = getattr(value, field)
        if option.kind is bool:
            words = [option.name if value else option.negated]
        else:
            words = [option.name, *(map(str, value or ("None",)) if isinstance(value, tuple) else (str(value),))]
        assert read_words(words, [option]) == {option.path: value}


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vgrpo {vgrpo.__version__}\n"


@pytest.mark.parametrize("line", ["--help", "train --help", "plan sprites", "report --help"])
def test_a_reader_that_stops_reading_is_no_error(line, tmp_path):
    command = [
        sys.executable,
        "-c",
        "import sys, time; from vgrpo.commands.main import main; time.sleep(0.5); sys.exit(main())",
    ]
    process = subprocess.Popen([*command, *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) in (0, 141)
    assert said == b""


TEXTS = ["[bold]", "a [red] heart[/]", "[/]", "[link=x]y", ":heart:", "\\[a]", "[1, 2]", "a" * 300]


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_user_is_printed_as_it_is(text, capsys):
    table = Table(title=text)
    table.add_column(text, no_wrap=True)
    table.add_row("x")
    Screen().print(text)
    assert capsys.readouterr().out == f"{text}\n"
    Screen().print(table)
    assert text[:20] in capsys.readouterr().out
    RunConsole().say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_a_category_is_printed_as_it_is(capsys):
    part = {"strict": None, "reward": 0.5, "by_category": {"[red]": {"reward": 0.5}, ":heart:": {"reward": 0.5}}}
    Screen().print(results_table({"num_prompts": 1, "num_images": 1, "base": part}))
    said = capsys.readouterr().out
    assert "[red]" in said
    assert ":heart:" in said


def test_there_is_one_way_to_a_console():
    folder = Path(vgrpo.__file__).parent
    own = [path.name for path in folder.rglob("*.py") if re.search(r"rich\.console import|rich import print", path.read_text())]
    assert own == ["screen.py"]


def test_an_alarm_names_its_monitor_as_it_is(capsys):
    RunConsole()(AlarmRaised(monitor="[red] :heart:", iteration=3))
    assert capsys.readouterr().out == "alarm: [red] :heart: falls while the reward is up, iteration 4\n"


def test_no_secret_is_in_a_traceback(capsys):
    try:
        raise RuntimeError("asked http://me:pw@host") from KeyError("hf_" + "aB3dEfGh" * 4)
    except RuntimeError as error:
        _show(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "RuntimeError: asked http://***@host" in said
    assert "KeyError: '***'" in said
    assert "Traceback" in said


def test_a_ctrl_c_while_python_leaves_changes_nothing(tmp_path):
    code = (
        "import atexit, os, signal, sys; from vgrpo.commands.main import main; "
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_comes_without_loading_torch():
    code = "import sys, vgrpo.commands.main; vgrpo.commands.main.main(['--help']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_train_then_sample_eval_and_report(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(f"train sprites --output-dir {run} --seed 1 {QUICK}".split()) == 0
    assert main(f"train {run}/config.yaml --output-dir {tmp_path}/again".split()) == 0
    first, again = ((folder / "metrics.jsonl").read_text() for folder in (run, tmp_path / "again"))
    same = ("reward/mean", "grad_norm", "surrogate/mean")
    assert [json.loads(first)[name] for name in same] == [json.loads(again)[name] for name in same]

    (tmp_path / "prompts.txt").write_text("a red heart\ntwo keys\n")
    out = tmp_path / "out"
    line = f"sample --model sprites --lora {run}/lora --prompts {tmp_path}/prompts.txt --num-images 2 --num-steps 3 --seed 0"
    assert main([*line.split(), "--output-dir", str(out)]) == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["00000_00.png", "00000_01.png", "00001_00.png", "00001_01.png"]
    assert Image.open(out / "00000_00.png").size == (64, 64)
    assert main([*line.split(), "--shift", "3", "--output-dir", str(tmp_path / "shifted")]) == 0
    assert (tmp_path / "shifted/00000_00.png").read_bytes() != (out / "00000_00.png").read_bytes()
    assert main([*line.split(), "--shift", "0", "--output-dir", str(tmp_path / "never")]) == 1
    assert "shift=0.0: the time shift must be above 0" in capsys.readouterr().err
    assert [json.loads(line)["prompt"] for line in (out / "prompts.jsonl").read_text().splitlines()] == [
        "a red heart",
        "two keys",
    ]

    scores = (
        f"eval --lora {run}/lora --output-dir {tmp_path}/scores --eval.num-prompts 7 --eval.num-images 1 --eval.num-steps 2"
    )
    assert main(scores.split()) == 0
    assert set(json.loads((tmp_path / "scores/eval.json").read_text())) >= {"base", "tuned", "num_prompts", "num_images"}

    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count('sheet":"data:image/png;base64,') >= 2
    assert "default-src 'none'" in html.unescape(page)


def test_any_algorithm_runs_and_its_config_repeats_it(tmp_path):
    line = f"train sprites --objective mixgrpo --objective.num-window-steps 2 --output-dir {tmp_path}/run {QUICK}"
    assert main(line.split()) == 0
    saved = (tmp_path / "run/config.yaml").read_text()
    assert "name: mixgrpo" in saved
    assert "num_window_steps: 2" in saved
    assert main(f"train {tmp_path}/run/config.yaml --output-dir {tmp_path}/again".split()) == 0
    first, again = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("run", "again"))
    assert first["grad_norm"] == again["grad_norm"]
    assert first["nfe/train"] == 1  # two steps of half the images
