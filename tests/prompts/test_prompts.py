"""Prompt files."""

import json
import random
import time
from datetime import date

import pytest
from datasets import Dataset, DatasetDict

from vgrpo import Prompt
from vgrpo.commands.main import main
from vgrpo.core.seeds import seed_of
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.sources import evaluation_prompts, from_list, from_memory, from_tags, held_out_name, training_prompts
from vgrpo.prompts.splits import split_off
from vgrpo.rewards.geneval.rules import Detection, graded, strict
from vgrpo.training.settings.config import Config
from vgrpo.training.tasks.prompts import run_prompts
from vgrpo.worlds.sprites.grammar import TAGS


def test_a_table_of_prompts_keeps_its_other_columns(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text('id,prompt\n1,"a heart, red"\n2,a key\n')
    prompts = read_prompts(path)
    assert [prompt.text for prompt in prompts] == ["a heart, red", "a key"]
    assert prompts[1].metadata["id"] == "2"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "words\na heart\n", r"no column `prompt`.*\['words'\]"),
        (
            "a.csv",
            "prompt,tag\na key,x\na cat, a dog,animals\n",
            "a.csv, line 3: 3 fields for 2 columns; put a text that holds",
        ),
        ("a.tsv", "prompt\na\tb\n", "a.tsv, line 2: 2 fields for 1 columns; a text may hold no tab"),
        ("a.json", '{"prompt": "a"}', "a.json: must be a list of texts"),
        ("a.json", '["a", {"words": 1}]', "a.json, entry 2: not a JSON object with a `prompt`"),
        ("a.JSON", '["a"', "a.JSON: not JSON"),
        ("a.md", "# a", "must end in .txt, .json, .jsonl, .csv, .tsv or .parquet; rename or convert it"),
        ("a.jsonl", '{"prompt": "a", "include": "[{"}', "a.jsonl, line 1: `include` is no JSON"),
        ("a.csv", "prompt\n", "is empty"),
        ("a.jsonl", '{"prompt": "a"}\n{"words": "b"}\n', "line 2: not a JSON object with a `prompt`"),
        ("a.jsonl", '{"prompt": "a"}\n\n{"prompt": null}\n', "a.jsonl, line 3: `prompt` must be text in quotation marks"),
        ("a.jsonl", '{"prompt": 5}\n', "a.jsonl, line 1: `prompt` must be text in quotation marks"),
        ("a.csv", f'prompt\na\n"{"b" * 200000}\n', "a.csv, after line 2: not CSV .* is a quotation mark missing"),
        ("a.txt", "\n\n", "is empty"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "a café\nb\n"), ("a.csv", "prompt\na café\nb\n"), ("a.jsonl", '{"prompt": "a café"}\n{"prompt": "b"}')],
)
def test_encodings(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert [prompt.text for prompt in read_prompts(path)] == ["a café", "b"]
    path.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert [prompt.text for prompt in read_prompts(path)] == ["a café", "b"]
    path.write_text(text, encoding="latin-1")
    line = 2 if name == "a.csv" else 1
    with pytest.raises(ValueError, match=f"{name}, line {line}: byte .* is not UTF-8; save the file as UTF-8"):
        read_prompts(path)


ROWS = [{"prompt": "a red heart", "tag": "colors"}, {"prompt": "two keys", "tag": "counting"}]


@pytest.mark.parametrize("kind", ["parquet", "saved", "split", "files"])
def test_tables(kind, tmp_path):
    table = Dataset.from_list(ROWS)
    path = tmp_path / ("prompts.parquet" if kind == "parquet" else "prompts")
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "files":
        path.mkdir()
        table.to_json(path / "train.jsonl")
    else:
        (table if kind == "saved" else DatasetDict(train=table, test=table.select([0]))).save_to_disk(path)
    assert read_prompts(path) == [Prompt(text=row["prompt"], metadata=row) for row in ROWS]


def test_tables_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Dataset.from_list([{"words": "a"}]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column `prompt`; its columns are words"):
        read_prompts(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="nobody/nothing: not found, or the hub did not answer"):
        read_prompts("hub:nobody/nothing")
    with pytest.raises(FileNotFoundError):
        read_prompts(tmp_path / "missing.parquet")
    Dataset.from_list([{"prompt": None}, {"prompt": 5}]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet, row 2: `prompt` is 5; make the column text"):
        read_prompts(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"c.parquet: cannot be read \(Parquet magic bytes not found.*copy it again"):
        read_prompts(tmp_path / "c.parquet")
    DatasetDict(test=Dataset.from_list(ROWS), val=Dataset.from_list(ROWS)).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match="splits: no split `train`; of its splits test, val save the one you want by itself"):
        read_prompts(tmp_path / "splits")
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "jsonl/train.jsonl").write_text('{"prompt":')
    with pytest.raises(ValueError, match=r"jsonl: cannot be read \(JSON parse error"):
        read_prompts(tmp_path / "jsonl")


def test_a_table_with_dates_is_drawn_and_listed(tmp_path):
    Dataset.from_list([ROWS[0] | {"day": date(2024, 5, 1)}]).to_parquet(tmp_path / "a.parquet")
    line = f"sample --prompts {tmp_path}/a.parquet --output-dir {tmp_path}/out --num-images 1 --num-steps 1"
    assert main(line.split()) == 0
    assert json.loads((tmp_path / "out/prompts.jsonl").read_text()) == ROWS[0] | {"day": "2024-05-01"}


def test_tasks_are_drawn_by_their_shares():
    prompts = [Prompt(text=f"{tag} {n}", metadata={"tag": tag}) for tag in ("a", "b", "c") for n in range(5)]
    draw = from_tags(prompts, ("a=3", "b=1"), seed=0)
    tags = [prompt.metadata["tag"] for iteration in range(100) for prompt in draw(iteration, 20)]
    assert tags.count("a") / len(tags) == pytest.approx(0.75, abs=0.03)
    assert tags.count("c") == 0
    assert draw(3, 20) == draw(3, 20) != draw(4, 20)
    assert len({prompt.text for iteration in range(5) for prompt in draw(iteration, 20)}) == 10
    with pytest.raises(ValueError, match="no prompt has the tag 'd'; there are a, b, c"):
        from_tags(prompts, ("d=1",), seed=0)
    for bad in ("a", "a=", "a=0", "a=-1"):
        with pytest.raises(ValueError, match="prompt_shares"):
            from_tags(prompts, (bad,), seed=0)


@pytest.mark.parametrize(
    ("name", "tags"), [("sprites", TAGS), ("sprites:text", ("text",)), ("sprites:text,counting", ("text", "counting"))]
)
def test_kinds_of_the_sprites_world(name, tags):
    drawn = training_prompts(name, seed=0)(3, 28)
    held_out = evaluation_prompts(held_out_name(name, None), 28)
    for prompts in (drawn, held_out):
        assert {prompt.metadata["tag"] for prompt in prompts} == set(tags)
    assert not {prompt.text for prompt in drawn} & {prompt.text for prompt in held_out}
    assert len({prompt.text for prompt in held_out}) == len(held_out)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no kind 'words'; its kinds are single_object"):
        training_prompts("sprites:words", seed=0)


def test_only_line_ends_end_a_line(tmp_path):
    """JSON may hold U+2028 as it is, and Macs once ended lines with a carriage return."""
    text = "a sign\u2028with two lines"
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (tmp_path / "p.txt").write_bytes(b"a red heart\rtwo keys\r")
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.jsonl")] == [text]
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.txt")] == ["a red heart", "two keys"]


def test_a_list_is_shuffled_once_per_pass_in_the_same_order_as_ever():
    prompts = [Prompt(text=str(number)) for number in range(7)]

    def drawn(iteration, count, seed):
        """A shuffle of the whole list for every prompt, as it once was."""
        chosen = []
        for position in range(iteration * count, (iteration + 1) * count):
            epoch, index = divmod(position, 7)
            order = random.Random(seed_of(seed, "prompt order", epoch)).sample(range(7), 7)
            chosen.append(prompts[order[index]])
        return chosen

    for seed in (0, 3):
        source = from_list(prompts, seed)
        for iteration in (0, 1, 2, 9, 1, 0):  # also out of order
            for count in (1, 3, 7, 20):
                assert source(iteration, count) == drawn(iteration, count, seed)
    assert sorted(prompt.text for prompt in source(0, 7)) == list("0123456")


def test_a_long_list_is_shuffled_once_per_pass():
    source = from_list([Prompt(text=str(number)) for number in range(200_000)], seed=0)
    begin = time.perf_counter()
    assert len({prompt.text for prompt in source(3, 1000)}) == 1000
    assert time.perf_counter() - begin < 5  # once per prompt would take minutes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'prompt\n"two\r\nlines"\n"a\ttab"\n'),
        ("a.jsonl", b'{"prompt": "two\\r\\nlines"}\n{"prompt": "a\\ttab"}\n'),
        ("a.jsonl", b'{"prompt": "two\\n\\n lines \\r"}\r\n{"prompt": "a\\u000btab"}\r\n'),
    ],
)
def test_a_prompt_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    prompts = read_prompts(tmp_path / name)
    assert [prompt.text for prompt in prompts] == ["two lines", "a tab"]
    assert [prompt.metadata["prompt"] for prompt in prompts] == ["two lines", "a tab"]


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.txt", b"a heart\na \x1b[31mred\x1b[0m key\n", "a.txt, line 2: the prompt holds the control character U.001B"),
        ("a.txt", b"a\0b\n", "a.txt, line 1: the prompt holds the control character U.0000"),
        ("a.txt", "a\u009b31m\n".encode(), "a.txt, line 1: .* U.009B"),
        ("a.csv", b'prompt\na heart\n"a\x7fb"\n', "a.csv, line 3: .* U.007F"),
        ("a.jsonl", b'\n{"prompt": "a\\u0000b"}\n', "a.jsonl, line 2: .* U.0000"),
        ("a.jsonl", b'{"prompt": "a\\ud800b"}\n', "a.jsonl, line 1: .* U.D800"),
        ("a.jsonl", b'{"prompt": "a"}\n' + b"[" * 200_000, "a.jsonl, line 2: not a JSON object"),
    ],
)
def test_control_characters_are_refused(tmp_path, name, content, where):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=where):
        read_prompts(tmp_path / name)


def test_prompts_in_memory_and_in_tables_are_checked_too(tmp_path):
    assert from_memory(["two\nlines", Prompt(text="a key")]) == [Prompt(text="two lines"), Prompt(text="a key")]
    with pytest.raises(ValueError, match="prompts, number 2: the prompt holds the control character"):
        from_memory(["a", "b\x1bc"])
    with pytest.raises(ValueError, match="prompts is empty"):
        from_memory([])
    Dataset.from_list([{"prompt": "a"}, {"prompt": "b\x1bc"}]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 2: the prompt holds the control character"):
        read_prompts(tmp_path / "a.parquet")


def test_spaces_stay_as_they_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": " two  spaces "}\n')
    assert read_prompts(tmp_path / "a.jsonl")[0].text == " two  spaces "


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '["a heart, red", "a key"]'),
        ("a.json", '[{"Caption": "a heart, red"}, {"caption": "a key"}]'),
        ("a.JSONL", '{"text": "a heart, red"}\n{"prompts": "a key"}\n'),
        ("a.CSV", 'id,Prompt\n1,"a heart, red"\n2,a key\n'),
        ("a.tsv", "text\tid\na heart, red\t1\na key\t2\n"),
        ("a.TXT", "a heart, red\na key\n"),
    ],
)
def test_kinds_of_files_endings_and_columns(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert [prompt.text for prompt in read_prompts(tmp_path / name)] == ["a heart, red", "a key"]


@pytest.mark.parametrize("packed", [False, True])
def test_genevals_metadata_from_a_table_scores_as_from_its_file(tmp_path, packed):
    """A table gives every entry every key, None where it has none, or holds the entries as text."""
    counting = {"tag": "counting", "include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}
    colored = {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}]}
    rows = [{"prompt": f"prompt {n}"} | row for n, row in enumerate((counting, colored))]
    as_text = [{key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows]
    Dataset.from_list(as_text if packed else rows).to_parquet(tmp_path / "a.PARQUET")
    prompts = read_prompts(tmp_path / "a.PARQUET")
    assert [prompt.metadata for prompt in prompts] == rows
    cats = [Detection(label="cat", score=0.99, box=(0, 0, 9, 9)), Detection(label="cat", score=0.98, box=(20, 0, 29, 9))]
    assert graded(cats, prompts[0].metadata) == 1
    assert strict(cats, prompts[0].metadata)


def test_a_users_prompts_are_split_by_their_texts():
    prompts = [Prompt(text=f"prompt {number % 90}") for number in range(100)]
    train, held_out = split_off(prompts, 9)
    assert len(held_out) == len({prompt.text for prompt in held_out}) == 9
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in held_out}
    assert {prompt.text for prompt in train + held_out} == {prompt.text for prompt in prompts}
    assert split_off(prompts[::-1], 9)[1] == held_out[::-1]
    assert split_off(prompts, 0) == (prompts, [])


def test_a_run_on_its_own_prompts_holds_some_out(tmp_path):
    given = [f"prompt {number}" for number in range(40)]
    usual = run_prompts(Config(), given)
    assert len(usual.held_out) == 4
    assert usual.notes[0].startswith("4 of the 40 prompts of the given prompts are held out")
    assert not {p.text for p in usual.source(0, 36)} & {p.text for p in usual.held_out}
    assert run_prompts(Config(seed=5), given).held_out == usual.held_out
    assert len(run_prompts(Config(held_out_prompts=7), given).held_out) == 7
    for none in (Config(held_out_prompts=0), Config(eval=EvalConfig(num_prompts=0))):
        assert run_prompts(none, given).held_out == run_prompts(none, given).notes == []
    with pytest.raises(ValueError, match="held_out_prompts=40: there are 40 different prompts"):
        run_prompts(Config(held_out_prompts=40), given)
