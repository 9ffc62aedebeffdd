"""Prompt files."""

import pytest
from datasets import Dataset, DatasetDict

from vgrpo import Prompt
from vgrpo.prompts import evaluation_prompts, from_tags, held_out_name, read_prompts, training_prompts
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
        ("a.csv", "caption\na heart\n", r"no column `prompt`.*\['caption'\]"),
        ("a.csv", "prompt\n", "is empty"),
        ("a.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "line 2: not a JSON object with a `prompt`"),
        ("a.txt", "\n\n", "is empty"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_prompts(tmp_path / name)


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
    Dataset.from_list([{"caption": "a"}]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column `prompt`; its columns are caption"):
        read_prompts(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="nobody/nothing: not found, or the hub did not answer"):
        read_prompts("hub:nobody/nothing")
    with pytest.raises(FileNotFoundError):
        read_prompts(tmp_path / "missing.parquet")


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
