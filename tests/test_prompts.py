"""Prompt files."""

import pytest

from vgrpo.prompts import read_prompts


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
