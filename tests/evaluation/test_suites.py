"""Suites: their prompts, and what is missing for one."""

import json
import random

import pytest

from vgrpo.commands.main import main
from vgrpo.evaluation.suites import suite_prompts
from vgrpo.prompts.generators import geneval


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--suite geneval", "--suite geneval needs --prompts FILE: the benchmark's JSON lines"),
        ("--suite drawbench", "--suite drawbench needs --prompts FILE: DrawBench's prompts"),
        ("--suite preference", "--suite preference needs --prompts FILE: the prompts to compare on"),
        ("--suite ocr --prompts none.txt", "no prompt file none.txt"),
        ("--suite sprites --prompts none.txt", "no prompt file none.txt"),
        ("--suite geneval --prompts {tmp}/p.txt", "--suite geneval needs the benchmark's JSON lines"),
        ("--suite ocr --prompts {tmp}/p.txt", "the words to write in quotation marks; --prompts {tmp}/p.txt holds 'a heart'"),
        ("--suite genevla", "unknown suite 'genevla': did you mean geneval?"),
        ("--shard 4/4", "--shard 4/4: give its number and how many there are, 0/4 to 3/4"),
        ("--eval.num-prompts 0", "--eval.num-prompts 0: must be at least 1"),
        ("--reward sprites sprites", "--reward sprites sprites: name each once"),
        ("--lora {tmp}", "no pytorch_lora_weights.safetensors in it"),
    ],
)
def test_what_is_missing_is_named(line, message, tmp_path, capsys):
    (tmp_path / "p.txt").write_text("a heart\n")
    try:
        status = main(f"eval {line} --output-dir {tmp_path}/out".format(tmp=tmp_path).split())
    except SystemExit as error:  # for an option that is wrong in itself
        status = error.code
    assert status in (1, 2)
    assert message.format(tmp=tmp_path) in " ".join(capsys.readouterr().err.split())


def test_suites_take_their_prompts_evenly(tmp_path):
    rng = random.Random(0)
    prompts = [geneval.sample_prompt(rng, tag) for tag in ("position", "counting") for _ in range(10)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(prompt.metadata) + "\n" for prompt in prompts))
    path = str(tmp_path / "p.jsonl")
    assert suite_prompts("geneval", path, 100) == prompts
    assert [p.metadata["tag"] for p in suite_prompts("geneval", path, 4)] == ["position"] * 2 + ["counting"] * 2
    words = suite_prompts("ocr", "ocr", 100_000)
    assert len({prompt.text for prompt in words}) == len(words) == 1000
    assert words == suite_prompts("ocr", "ocr", 100_000)


def test_genevals_prompts_are_not_taken_for_those_of_the_sprites_world(tmp_path):
    prompts = [geneval.sample_prompt(random.Random(index), "two_object") for index in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(prompt.metadata) + "\n" for prompt in prompts))
    line = f"eval --suite geneval --prompts {tmp_path}/p.jsonl --reward jpeg_compressibility --output-dir {tmp_path}/out"
    assert main(f"{line} --eval.num-images 1 --eval.num-steps 2".split()) == 0
    content = json.loads((tmp_path / "out/eval.json").read_text())
    assert content["num_images"] == 4
    assert set(content["base"]) == {"reward", "by_category"}
    assert set(content["intervals"]) == {"jpeg_compressibility"}
