"""Generated prompts say what their metadata says."""

import json
import random
from collections import Counter

import pytest

from vgrpo import Prompt
from vgrpo.commands.main import main
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.generators import geneval, ocr
from vgrpo.prompts.splits import benchmark_keys, key
from vgrpo.rewards.text.ocr import quoted


@pytest.mark.parametrize("tag", geneval.SAMPLERS)
def test_text_and_metadata_agree(tag):
    rng = random.Random(0)
    for _ in range(200):
        prompt = geneval.sample_prompt(rng, tag)
        assert prompt.metadata["tag"] == tag
        assert prompt.text == prompt.metadata["prompt"]
        assert prompt.text.startswith("a photo of ")
        for item in prompt.metadata["include"]:
            name = item["class"] if item["count"] == 1 else geneval.plural(item["class"])
            assert name in prompt.text
            assert item["count"] == 1 or geneval.NUMBERS[item["count"] - 2] in prompt.text
            assert item.get("color", "") in prompt.text
            if "position" in item:
                relation, other = item["position"]
                before, after = prompt.text.split(f" {relation} ")
                assert before.endswith(item["class"])
                assert after.endswith(prompt.metadata["include"][other]["class"])
        assert ("exclude" in prompt.metadata) == (tag == "counting")


def test_tasks_come_in_their_shares_and_no_prompt_from_the_benchmark():
    known = frozenset(key(prompt) for prompt in geneval.training_set(50, seed=1))
    prompts = geneval.training_set(5000, seed=2, known=known)
    assert not {key(prompt) for prompt in prompts} & (known | benchmark_keys())
    counts = Counter(prompt.metadata["tag"] for prompt in prompts)
    for tag, share in geneval.SHARES.items():
        assert counts[tag] / 5000 == pytest.approx(share / 17, abs=0.03)
    assert geneval.training_set(20, seed=2) == geneval.training_set(20, seed=2) != geneval.training_set(20, seed=3)


def test_a_task_that_is_all_excluded_is_named():
    rng = random.Random(0)
    known = frozenset(key(geneval.sample_prompt(rng, "counting")) for _ in range(20000))
    with pytest.raises(ValueError, match="every prompt of the task counting is excluded"):
        geneval.training_set(100, seed=0, known=known)


def entry(name, count=1, **more):
    return {"class": name, "count": count} | more


def asked(tag, *include, text=""):
    return key(Prompt(text=text, metadata={"tag": tag, "include": list(include)}))


@pytest.mark.parametrize(
    ("tag", "include"),
    [  # test prompts that papers and repositories show
        ("single_object", [entry("bench")]),
        ("two_object", [entry("horse"), entry("train")]),
        ("counting", [entry("hot dog", 4)]),
        ("colors", [entry("computer keyboard", color="brown")]),
        ("position", [entry("bear"), entry("bench", position=["left of", 0])]),
        ("position", [entry("horse"), entry("elephant", position=("below", 0))]),
        ("color_attr", [entry("stop sign", color="yellow"), entry("potted plant", color="blue")]),
    ],
)
def test_the_benchmarks_prompts_are_known_in_any_order(tag, include):
    assert asked(tag, *include) in benchmark_keys()
    if tag in ("two_object", "color_attr"):
        assert asked(tag, *include[::-1], text="other words") == asked(tag, *include)
    if tag == "position":  # a bench left of a bear is a bear right of a bench
        relation = {"left of": "right of", "below": "above"}[include[1]["position"][0]]
        turned = asked(tag, entry(include[1]["class"]), entry(include[0]["class"], position=[relation, 0]))
        opposite = asked(tag, include[0], {**include[1], "position": [relation, 0]})
        assert turned == asked(tag, *include) != opposite


def test_all_of_the_benchmark_is_known():
    assert len(benchmark_keys()) == 552  # of 553: one pair is asked for twice, in either order
    assert all(asked("single_object", entry(name)) in benchmark_keys() for name in geneval.CLASSES)


@pytest.mark.parametrize("kind", [geneval, ocr])
def test_held_out_prompts_come_in_no_training_file(kind):
    train, held_out = kind.training_set(10_000, seed=0), kind.training_set(500, seed=0, held_out=True)
    assert not {key(prompt) for prompt in train} & {key(prompt) for prompt in held_out}
    assert {prompt.metadata["tag"] for prompt in train} == {prompt.metadata["tag"] for prompt in held_out}


def test_the_fixed_words_of_the_evaluation_are_never_trained_on():
    fixed = {prompt.text for prompt in ocr.held_out_set(1000)}
    assert len(fixed) == 1000
    assert not fixed & {prompt.text for prompt in ocr.training_set(20_000, seed=0)}


def test_articles_and_plurals():
    assert [geneval.article(name) for name in ("apple", "red apple", "umbrella")] == ["an apple", "a red apple", "an umbrella"]
    names = ["person", "knife", "bus", "bench", "computer mouse", "sheep", "wine glass", "toothbrush", "couch", "tv"]
    plurals = [
        "people",
        "knives",
        "buses",
        "benches",
        "computer mice",
        "sheep",
        "wine glasses",
        "toothbrushes",
        "couches",
        "tvs",
    ]
    assert [geneval.plural(name) for name in names] == plurals
    assert len(geneval.CLASSES) == 80


def test_words_stand_in_quotes():
    for prompt in ocr.training_set(300, seed=0):
        assert quoted(prompt.text) == prompt.metadata["target"].replace(" ", "").lower()


def test_the_command_writes_what_training_reads(tmp_path, capsys):
    first, second = tmp_path / "a.jsonl", tmp_path / "sub/b.jsonl"
    assert main(["prompts", "--kind", "geneval", "--num", "300", "--output", str(first)]) == 0
    assert main(["prompts", "--kind", "geneval", "--num", "300", "--output", str(second), "--exclude", str(first)]) == 0
    a, b = read_prompts(first), read_prompts(second)
    assert len(a) == len(b) == 300
    assert not {prompt.text for prompt in a} & {prompt.text for prompt in b}
    assert json.loads(first.read_text().splitlines()[0]) == a[0].metadata
    assert main(["prompts", "--kind", "ocr", "--num", "0", "--output", str(first)]) == 1
    assert "--num 0: must be at least 1" in capsys.readouterr().err
