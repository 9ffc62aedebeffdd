"""Every mistake on the command line: one or two lines that name it, soon; nothing is trained and no folder made."""

import errno
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgrpo.commands.main import COMMANDS, main

# Values that no setting takes, whatever its type: the value, and what the message says of it.
NUMBERS = {
    "--update.lr": [
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "0",
        "",
        " ",
        "x",
        "1,5",
        "1_0",
        "٣",
        "1e",
        "0x1",
        "1 2",
        "--",
        "True",
    ],
    "--update.weight-decay": ["nan", "-1", "1e999", "½"],
    "--update.max-grad-norm": ["-1", "nan"],
    "--update.keep-share": ["0", "1.5", "-1", "nan"],
    "--update.guidance": ["0", "nan", "0.5"],
    "--ema-decay": ["1", "-0.1", "nan", "2"],
    "--num-iterations": [
        "0",
        "-1",
        "1.5",
        "1e3",
        "nan",
        "9223372036854775808",
        "9" * 400,
        "",
        "three",
        "\uff11\uff12",
        "²",
        "1_000",
        "+",
    ],
    "--seed": ["1.0", "x", "", "9" * 30, "inf", "0b1", "None"],
    "--rollout.num-steps": ["0", "-3", "0.5", "99999999999999999999"],
    "--rollout.group-size": ["1", "0", "-8", "many"],
    "--rollout.shift": ["0", "-1", "nan", "inf"],
    "--rollout.guidance": ["0.9", "nan", "-inf"],
    "--rollout.batch-size": ["0", "-1", "x"],
    "--eval.num-prompts": ["-1", "x"],
    "--eval.num-images": ["0"],
    "--eval.sample-every": ["0"],
    "--checkpoint-every": ["0", "-5"],
    "--reward-timeout": ["0", "-1", "nan", "inf", "soon"],
    "--lora.rank": ["0", "-1", "1.5"],
    "--lora.alpha": ["0", "x"],
    "--objective.num-probes": ["0", "-1", "50", "x"],
    "--objective.ratio-clip": ["0", "2", "nan"],
    "--resolution": ["x", "1.5", ""],
}
CHOICES = {
    "--update.optimizer": ["adam", "", "AdamW", "adamw sgd"],
    "--update.lr-schedule": ["cosine", "Linear"],
    "--trackers": ["wandbb", "tensorboard mlflow"],
    "--finetune": ["loar", "full lora", "none"],
    "--precision": ["fp8", "AUTO"],
    "--memory.weights": ["fp64", "None"],
    "--rollout.solver": ["eulr", "", "euler heun"],
    "--objective.prediction": ["y"],
    "--objective.share-pairs": ["groups"],
}
FLAGS = ["--compile", "--stop-on-alarm", "--memory.vae-tiling", "--objective.stratified", "--no-compile"]
LINES = [
    # options
    ("train --zzz 1", "unknown option --zzz; `--help` lists the options"),
    ("train --num-iteration 3", "did you mean --num-iterations?"),
    ("train --lr 1", "did you mean --update.lr?"),
    ("train --group-size 4", "did you mean --rollout.group-size?"),
    ("train --grup-size 4", "did you mean --rollout.group-size?"),
    ("train --rollout.grup-size 4", "did you mean --rollout.group-size?"),
    ("train --rollout.lr 4", "did you mean --update.lr?"),
    ("train --memory.offload True", "did you mean --memory.offload-copies?"),
    ("train --objective.beta 1", "unknown option --objective.beta"),
    ("train --rollout 4", "unknown option --rollout"),
    ("train -n 3", "unknown option -n"),
    ("train --", "unknown option --"),
    ("train -- --seed 1", "unknown option --"),
    ("train -", "unknown option -"),
    ("train ---seed 1", "did you mean --seed?"),
    ("train --=1", "unknown option --"),
    (f"train --{'x' * 5000} 1", "unknown option --xxx"),
    ("train sprites junk", "'junk' is no option"),
    ("train sprites junk --seed 1", "'junk' is no option"),
    ("train --seed 1 junk", "--seed takes one value, but '1' 'junk' is given"),
    ("train --seed 1 2", "--seed takes one value, but '1' '2' is given"),
    ("train --seed", "--seed takes one value, but none is given"),
    ("train --seed --num-iterations 1", "--seed takes one value, but none is given"),
    ("train --seed=", "--seed : give a whole number"),
    ("train --seed=1 --seed 1", "--seed is given twice"),
    ("train --seed 1 --num-iterations 2 --seed 3", "--seed is given twice"),
    ("train --num-iterations 1 --num_iterations 2", "--num-iterations is given twice"),
    ("train --compile --no-compile", "--compile is given twice"),
    ("train --objective mixgrpo --objective vgrpo", "--objective is given twice"),
    ("train --objective", "--objective takes one value, but none is given"),
    ("train --objective zzz", "unknown objective 'zzz'"),
    ("train --objective mixgrop", "did you mean mixgrpo?"),
    ("train --update.betas 0.9", "--update.betas takes 2 values, but '0.9' is given"),
    ("train --update.betas 0.9 0.99 0.999", "--update.betas takes 2 values"),
    ("train --update.betas 0.9 1", "update.betas="),
    ("train --update.betas nan 0.9", "--update.betas nan: give a finite number"),
    # words
    ("train --reward", "--reward takes values, but none is given"),
    ("train --reward None", "reward is empty"),
    ("train --reward ''", "--reward '' is empty"),
    ("train --reward ' '", "--reward ' ' is empty"),
    ("train --reward sprites ''", "--reward '' is empty"),
    ("train --reward :", "reward ':'"),
    ("train --reward a:b:c", "reward 'a:b:c'"),
    ("train --reward a:", "reward 'a:'"),
    ("train --reward :b", "reward ':b'"),
    ("train --reward ../a:b", "reward '../a:b'"),
    ("train --reward a.py:b", "reward 'a.py:b'"),
    ("train --reward sprite", "did you mean sprites?"),
    ("train --reward zzz", "unknown reward 'zzz'"),
    ("train --reward nowhere:judge", "nowhere.py in this folder"),
    ("train --reward remote", "give the server's address"),
    ("train --reward remote=ftp://host", "must begin with http:// or https://"),
    ("train --reward remote=http://me:pw@host", "holds a password"),
    ("train --reward judge", "name its settings"),
    ("train --reward judge={t}/none.yaml", "no file"),
    ("train --reward judge={t}/text.txt", "holds no settings"),
    ("train --monitor zzz", "unknown reward 'zzz'"),
    ("train --monitor", "--monitor takes values, but none is given"),
    ("train --reward-weights 1 2", "one weight for each"),
    ("train --reward-weights nan", "give a finite number"),
    ("train --reward-weights 0", "all are 0"),
    ("train --prompts", "--prompts takes one value"),
    ("train --prompts ''", "--prompts '' is empty"),
    ("train --prompts {t}/none.txt", "no prompt file"),
    ("train --prompts {t}/empty.txt", "is empty"),
    ("train --prompts sprites:dragons", "no kind 'dragons'"),
    ("train --prompt-shares garbage", "prompt_shares garbage"),
    ("train --prompt-shares a=1", "shares need a file"),
    ("train --prompts {t}/text.txt --prompt-shares a=1", "no prompt has the tag 'a'; there are None"),
    ("train --prompts {t}/text.txt --prompt-shares None=1 None=2", "comes twice"),
    ("train --prompts {t}/text.txt --prompt-shares None=²", "prompt_shares None=²"),
    ("train --prompts {t}/text.txt --prompt-shares None=1e999", "prompt_shares None=1e999"),
    (f"train --prompts {{t}}/text.txt --prompt-shares None={'9' * 400}", "prompt_shares None=999"),
    ("train --objective ddpo --rollout.num-steps 1", "rollout.num_steps=1"),
    ("train --objective flowgrpo --objective.window-range 3 3", "objective.window_range=(3, 3)"),
    ("train --lora.targets None --lora.rank 100000000", "lora.rank=100000000"),
    ("train --rollout.num-prompts 9999999999", "rollout.num_prompts=9999999999"),
    ("train --rollout.num-prompts 9999 --rollout.group-size 9999", "rollout.num_prompts times rollout.group_size"),
    ("train --eval.num-prompts 99999 --eval.num-images 9999", "eval.num_prompts times eval.num_images"),
    ("train --device banana", "device=banana: must be auto"),
    ("train --device cuda:99", "device=cuda:99: torch finds"),
    ("train --reward-device banana", "reward_device=banana: must be auto"),
    ("train --reward-device cuda:99", "reward_device=cuda:99: torch finds"),
    ("train --device cpu:x", "device=cpu:x"),
    ("train sprites-curriculum --device banana", "device=banana"),
    (f"train sprites-curriculum --seed {2**62}", "seed: a whole number must be at most"),
    ("train --model http://me:pw@host/model", "model=http://***@host/model: holds a password"),
    ("train --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("train --output-dir {t}/text.txt/o", "text.txt is a file; name a folder"),
    ("train sprites-curriculum --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("train --memory.prompt-cache {t}/text.txt", "--memory.prompt-cache"),
    ("train {t}/betas.yaml", "update.betas=[0.9]: must be a list of 2"),
    ("train --prompts {t}/text.txt --prompt-shares garbage", "prompt_shares garbage"),
    ("train --prompts {t}/text.txt --prompt-shares None=x", "prompt_shares None=x"),
    ("train --prompts {t}/text.txt --prompt-shares None=0", "prompt_shares None=0"),
    ("train --prompts {t}/text.txt --prompt-shares None=-1", "prompt_shares None=-1"),
    ("train --prompts {t}/text.txt --prompt-shares =1", "prompt_shares =1"),
    ("train --model ''", "--model '' is empty"),
    ("train --output-dir ''", "--output-dir '' is empty"),
    ("train --device ''", "--device '' is empty"),
    ("train --output-dir {t}/a {t}/b", "--output-dir takes one value"),
    # recipes and files
    ("train sprits", "no recipe 'sprits': did you mean sprites?"),
    ("train ''", "no recipe ''"),
    ("train {t}", "no recipe"),
    ("train {t}/none.yaml", "no recipe"),
    ("train {t}/text.txt", "holds no settings"),
    ("train {t}/empty.txt", "holds no settings"),
    ("train {t}/list.yaml", "holds no settings"),
    ("train {t}/bomb.yaml", "anchors (&) and aliases (*)"),
    ("train {t}/twice.yaml", "seed is set twice"),
    ("train {t}/bytes.yaml", "is not UTF-8"),
    ("train {t}/unknown.yaml", "did you mean seed?"),
    ("train {t}/huge.yaml", "is no plain decimal number in range"),
    ("train {t}/stages.yaml", "stages"),
    ("train sprites sprites", "'sprites' is no option"),
    # stages
    ("train --stage-1.seed 1", "only a curriculum has stages"),
    ("train --stage-x", "only a curriculum has stages"),
    ("train sprites-curriculum --stage-0.seed 1", "there are stages 1 to"),
    ("train sprites-curriculum --stage-99.seed 1", "there are stages 1 to"),
    ("train sprites-curriculum --stage-x.seed 1", "there are stages 1 to"),
    ("train sprites-curriculum --stage-1 1", "there are stages 1 to"),
    ("train sprites-curriculum --stage-٣.seed 1", "there are stages 1 to"),
    (f"train sprites-curriculum --stage-{'9' * 50}.seed 1", "there are stages 1 to"),
    ("train sprites-curriculum --stage-1.sede 1", "unknown option --sede"),
    ("train sprites-curriculum --stage-2.output-dir x", "a stage's folder is inside"),
    ("train sprites-curriculum --stage-2.output_dir=x", "a stage's folder is inside"),
    ("train sprites-curriculum --stage-2.lora.rank 2", "`lora` differs"),
    ("train sprites-curriculum --seed 1 --seed 2", "--seed is given twice"),
    ("train --resume", "--resume: name the run"),
    # sample
    ("sample", "--prompts is needed"),
    ("sample --prompts {t}/text.txt", "--output-dir is needed"),
    ("sample --output-dir {t}/o", "--prompts is needed"),
    ("sample --prompts {t}/none.txt --output-dir {t}/o", "no prompt file"),
    ("sample --prompts {t}/empty.txt --output-dir {t}/o", "is empty"),
    ("sample --prompts {t}/text.txt --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("sample --prompts {t}/text.txt --output-dir {t}/text.txt/o", "text.txt is a file; name a folder"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --num-images 0", "--num-images 0"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --num-images nan", "--num-images nan"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --shift 0", "shift=0.0"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --guidance 0", "guidance=0.0"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --num-steps 0", "num_steps=0"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --batch-size 0", "batch_size=0"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --num-images 99999", "--num-images 99999: must lie in 1 to 10,000"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --resolution 9999999", "resolution=9999999: must lie in 1 to 16,384"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --solver ddim", "--solver ddim: must be one of"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --device banana", "device=banana"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --device cuda:-1", "device=cuda:-1"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --model {t}", "not a diffusers pipeline"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --model {t}/none", "not a diffusers pipeline"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --lora {t}", "pytorch_lora_weights.safetensors"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o --lora {t}/none", "pytorch_lora_weights.safetensors"),
    ("sample --prompts {t}/text.txt --output-dir {t}/o junk", "--output-dir takes one value"),
    ("sample junk --prompts {t}/text.txt --output-dir {t}/o", "'junk' is no option"),
    (f"sample --prompts {{t}}/text.txt --output-dir {{t}}/{'x' * 300}", "File name too long"),
    # eval
    ("eval", "--output-dir is needed"),
    ("eval --suite geneval", "--output-dir is needed"),
    ("eval --suite", "--suite takes one value"),
    ("eval --suite zzz --output-dir {t}/o", "unknown suite 'zzz'"),
    ("eval --output-dir {t}/o --suite geneval --suite ocr", "--suite is given twice"),
    ("eval --output-dir {t}/o --shard 4/4", "--shard 4/4"),
    ("eval --output-dir {t}/o --shard x", "--shard x"),
    ("eval --output-dir {t}/o --shard 1/0", "--shard 1/0"),
    ("eval --output-dir {t}/o --shard -1/2", "-1/2"),
    ("eval --output-dir {t}/o --shard ٣/4", "--shard ٣/4"),
    (f"eval --output-dir {{t}}/o --shard 0/{'9' * 50}", "--shard 0/999"),
    ("eval --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("eval --output-dir {t}/text.txt/o", "text.txt is a file; name a folder"),
    ("eval --output-dir {t}/o --device banana", "device=banana"),
    ("eval --output-dir {t}/o --device cuda:99", "device=cuda:99"),
    ("eval --output-dir {t}/o --reward-device banana", "reward_device=banana"),
    ("eval --output-dir {t}/o --reward zzz", "unknown reward 'zzz'"),
    ("eval --output-dir {t}/o --lora {t}/none", "pytorch_lora_weights.safetensors"),
    ("eval --output-dir {t}/o --model {t}/none", "not a diffusers pipeline"),
    ("eval --output-dir {t}/o --resolution 40", "resolution=40"),
    ("eval --output-dir {t}/o --eval.num-images 0", "num_images=0"),
    ("eval --output-dir {t}/o --eval.shift nan", "--eval.shift nan"),
    ("eval --output-dir {t}/o --reward sprites sprites", "name each once"),
    ("eval --output-dir {t}/o --eval.batch-size 0", "eval.batch_size=0"),
    ("eval --output-dir {t}/o --prompts {t}/none.txt", "no prompt file"),
    # report, pretrain, bench
    ("report", "name one run's folder"),
    ("report {t}", "is not a run's folder"),
    ("report {t}/none", "is not a run's folder"),
    ("report {t}/text.txt", "is not a run's folder"),
    ("report a b", "name one run's folder"),
    ("report --zzz", "name one run's folder"),
    ("report ''", "name one run's folder"),
    ("pretrain dragons", "nothing called 'dragons' to pretrain"),
    ("pretrain sprites junk", "'junk' is no option"),
    ("pretrain --steps 1", "unknown option --steps"),
    ("pretrain --lr nan", "--lr nan: give a finite number"),
    ("pretrain preference --num-steps x", "--num-steps x: give a whole number"),
    ("pretrain sprites --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("pretrain preference --output-dir {t}/text.txt/o", "text.txt is a file; name a folder"),
    ("bench --suite smok", "did you mean 'smoke'?"),
    ("bench --only zzz", "--only zzz"),
    ("bench --only vgrpo vgrpo", "name each once"),
    ("bench --seconds 0", "seconds=0.0"),
    ("bench --seconds -1", "seconds=-1.0"),
    ("bench --eval-seconds nan", "--eval-seconds nan"),
    ("bench --num-prompts 0", "num_prompts=0"),
    ("bench --num-images 0", "num_images=0"),
    ("bench --workers 0", "workers=0"),
    ("bench --tune --seconds 3", "seconds: tuning has settings of its own"),
    ("bench --tuned {t}/none.json", "there is no such file"),
    ("bench --tune True", "--tune takes no value"),
    ("bench --seeds 1 1", "name each once"),
    ("bench --seeds x", "--seeds x: give a whole number"),
    ("bench --suite smoke --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    # diagnose, plan, prompts, serve-reward
    ("diagnose --group-size 1", "group_size=1"),
    ("diagnose --num-prompts 0", "num_prompts=0"),
    ("diagnose --num-timesteps 3", "num_timesteps=3"),
    ("diagnose --lr 0", "lr=0.0"),
    ("diagnose --prompts {t}/none.txt", "no prompt file"),
    ("diagnose --output-dir {t}/text.txt", "text.txt is a file; name a folder"),
    ("diagnose {t}", "not a diffusers pipeline"),
    ("diagnose sprites junk", "'junk' is no option"),
    ("plan zzz", "no recipe 'zzz'"),
    ("plan --gpus 0", "--gpus 0"),
    ("plan --gpus -1", "--gpus -1"),
    ("plan --gpus two", "--gpus two: give a whole number"),
    ("plan --gpus 1.5", "--gpus 1.5: give a whole number"),
    ("plan --gpus ²", "--gpus ²: give a whole number"),
    (f"plan --gpus {'9' * 50}", "--gpus 999"),
    ("plan --gpus", "--gpus takes one value"),
    ("plan --gpus 1 --gpus 2", "--gpus is given twice"),
    ("plan --gpu-memory much", "--gpu-memory much: give a number of gigabytes"),
    ("plan --gpu-memory 0GB", "--gpu-memory 0GB: give a number of gigabytes above 0"),
    ("plan --gpu-memory -8GB", "--gpu-memory -8GB"),
    ("plan --gpu-memory nan", "--gpu-memory nan"),
    ("plan --gpu-memory infGB", "--gpu-memory infGB"),
    ("plan --gpu-memory 1e3", "--gpu-memory 1e3"),
    ("plan --gpu-memory ٣GB", "--gpu-memory ٣GB"),
    ("plan --gpu-memory 24TB", "--gpu-memory 24TB"),
    ("plan --tflops 0", "--tflops 0"),
    ("plan --tflops nan", "--tflops nan"),
    ("plan --tflops -1", "--tflops -1"),
    ("plan --tflops fast", "--tflops fast: give a number"),
    ("plan --model {t}/none", "not a diffusers pipeline"),
    ("prompts", "--kind is needed"),
    ("prompts --kind ocr", "--output is needed"),
    ("prompts --kind zzz --output {t}/o", "--kind zzz: must be one of geneval, ocr"),
    ("prompts --kind ocr --output {t}/o --num 0", "--num 0"),
    ("prompts --kind ocr --output {t}/o --num -1", "--num -1"),
    ("prompts --kind ocr --output {t}/o --num 1.5", "--num 1.5: give a whole number"),
    ("prompts --kind ocr --output {t}", "is a folder; name a file"),
    ("prompts --kind ocr --output {t}/text.txt/o", "text.txt is a file"),
    ("prompts --kind ocr --output {t}/o --exclude {t}/none.txt", "no prompt file"),
    ("prompts --kind ocr --output {t}/o --held-out True", "--held-out takes no value"),
    ("serve-reward", "name the reward first"),
    ("serve-reward --port 1", "name the reward first"),
    ("serve-reward ''", "name the reward first"),
    ("serve-reward zzz --port 0", "unknown reward 'zzz'"),
    ("serve-reward sprites --port 0 --device banana", "device=banana"),
    ("serve-reward sprites --port -1", "--port -1: must lie in 0 to 65535"),
    ("serve-reward sprites --port 65536", "--port 65536: must lie in 0 to 65535"),
    ("serve-reward sprites --port x", "--port x: give a whole number"),
    ("serve-reward sprites --host ''", "--host '' is empty"),
    ("serve-reward sprites --host 0.0.0.0 --port 0", "set VGRPO_TOKEN"),
    ("serve-reward sprites --megabytes 0", "megabytes=0"),
    ("serve-reward sprites --max-images 0", "max_images=0"),
    ("serve-reward sprites --max-pixels -1", "max_pixels=-1"),
    ("serve-reward sprites --read-seconds 0", "read_seconds=0.0"),
    ("serve-reward sprites --score-seconds 0", "score_seconds=0.0"),
    ("serve-reward sprites junk", "'junk' is no option"),
    # commands
    ("trian", "no command 'trian'; did you mean train?"),
    ("zzz", "no command 'zzz'; known are train,"),
    ("''", "no command ''"),
    ("--zzz", "no command '--zzz'"),
    ("--", "no command '--'"),
    ("Train", "no command 'Train'; did you mean train?"),
]
FILES = {
    "text.txt": "a heart\n",
    "empty.txt": "\n",
    "list.yaml": "- a\n",
    "bomb.yaml": "a: &a [x]\nb: [*a, *a]\n",
    "twice.yaml": "seed: 1\nseed: 2\n",
    "unknown.yaml": "seeed: 1\n",
    "huge.yaml": f"seed: {'9' * 400}\n",
    "stages.yaml": "stages: 5\n",
    "betas.yaml": "update:\n  betas: [0.9]\n",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with files of all kinds, in which nothing may be made."""
    folder = tmp_path / "place"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "bytes.yaml").write_bytes(b"a: \xff")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VGRPO_TOKEN", raising=False)
    return folder


def refused(place, capsys, words):
    """What a mistake's message says, after checking its form, that it came soon, and that it left nothing behind."""
    before, begin = sorted(place.rglob("*")), time.process_time()
    status = main(words)
    captured = capsys.readouterr()
    assert status in (1, 2), captured
    assert time.process_time() - begin < 30  # imports are the most of it, and the first test's alone
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert 1 <= len(lines) <= 2, captured.err
    assert lines[0].startswith("vgrpo")
    assert "Traceback" not in captured.err
    assert len(captured.err) < 1500
    assert sorted(place.rglob("*")) == before
    return captured.err


def split(line, place):
    """As a shell does, with single quotes only."""
    parts = enumerate(line.format(t=place).split("'"))
    return [word for index, part in parts for word in ([part] if index % 2 else part.split())]


@pytest.mark.parametrize(("line", "message"), LINES, ids=[line[:60] for line, _ in LINES])
def test_a_mistake_is_named(place, capsys, line, message):
    assert message in refused(place, capsys, split(line, place))


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in (NUMBERS | CHOICES).items() for value in values]
)
def test_a_wrong_value_is_named_with_its_option(place, capsys, option, value):
    said = refused(place, capsys, ["train", option, *(value.split() if value.strip() else [value])])
    field = option.removeprefix("--").rpartition(".")[2]
    assert field in said or field.replace("-", "_") in said


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("value", ["True", "False", "1", "''", "yes", "None"])
def test_a_flag_takes_no_value(place, capsys, flag, value):
    assert f"{flag} takes no value" in refused(place, capsys, ["train", flag, value])
    assert f"{flag} takes no value" in refused(place, capsys, ["train", f"{flag}={value}"])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["\0", "a\0b", "--\0", "--seed=\0", "\udcff", "--output-dir=\udcff"])
def test_what_is_no_text_is_refused(place, capsys, command, word):
    refused(place, capsys, [command, "sprites", word])


PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SETTINGS = ["--seed", "--update.lr", "--num-iterations", "--rollout.solver", "--update.betas", "--compile", "--eval.num-images"]


@PROPERTY
@given(st.sampled_from(SETTINGS), st.text(min_size=1).filter(lambda text: not any(letter in "0123456789" for letter in text)))
def test_no_text_without_a_digit_is_a_number(place, capsys, option, text):
    words = ["train", f"{option}={text}", "--update.keep-share", "0"]
    refused(place, capsys, words)


@PROPERTY
@given(st.text("abcdefghijklmnopqrstuvwxyz.-_", min_size=2, max_size=30))
def test_no_other_option_is_taken(place, capsys, name):
    assert "option" in refused(place, capsys, ["train", f"--x{name}q", "1"]) or "stage" in name


@PROPERTY
@given(
    st.lists(st.sampled_from(["--seed", "1", "--compile", "--no-compile", "x", "--", "-1", "=", "--reward", ""]), max_size=6)
)
def test_any_order_of_words_ends_in_one_line(place, capsys, words):
    refused(place, capsys, ["train", *words, "--update.lr", "0"])


def refuse(monkeypatch, module, name):
    """Let a function fail as on a read-only file system."""

    def fail(path, *more, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(f"{module}.{name}", fail)


def test_a_read_only_disk_is_named_with_what_is_saved(place, capsys, monkeypatch):
    (place / "metrics.jsonl").write_text("")
    (place / "config.yaml").write_text("seed: 1\n")
    refuse(monkeypatch, "pathlib.Path", "open")
    monkeypatch.setattr("vgrpo.pages.run_files.RunFiles.read", lambda *_, **__: b"seed: 1\n")
    said = refused(place, capsys, ["report", str(place)])
    assert "it lies on a file system that can only be read. The run's own files are as they were." in said
    assert said.endswith("then give the same command again.\n")
    monkeypatch.undo()
    refuse(monkeypatch, "vgrpo.commands.prompts", "write_whole")
    said = refused(place, capsys, ["prompts", "--kind", "ocr", "--num", "1", "--output", str(place / "p.jsonl")])
    assert f"{place}/p.jsonl: it lies on a file system that can only be read. Mount it for writing" in said


def test_a_file_that_names_code_is_told_of_before_it_runs(place, capsys, monkeypatch):
    (place / "own.yaml").write_text(
        "reward: [own_code:judge, sprites]\nmonitor: [own_code:watch]\nprompts: sprites:text\n"
        "objective:\n  name: own_code:Mine\n"
    )
    (place / "own_code.py").write_text("import sys\nprint('own code runs', file=sys.stderr)\n")
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert main(["train", "own.yaml", "--monitor", "sprites"]) == 1
    said = capsys.readouterr().err
    told = "own.yaml names the {}: that module is imported, which runs its code"
    assert said.splitlines()[:2] == [told.format("reward own_code:judge"), told.format("objective own_code:Mine")]
    assert said.index("own_code:Mine") < said.index("own code runs")
    assert "own_code:watch" not in said
