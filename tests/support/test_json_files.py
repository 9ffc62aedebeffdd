"""JSON is written strictly and read with mercy for what older versions wrote."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgrpo.support.json_files import parse_json, read_json, to_json, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def finite(value):
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(VALUES)
def test_what_is_written_is_strict_json_and_reads_back(value):
    def refuse(name):
        raise AssertionError(name)

    text = to_json(value)
    assert json.loads(text, parse_constant=refuse) == finite(value) == parse_json(text, "x")


def test_a_file_is_written_whole(tmp_path):
    write_json(tmp_path / "eval.json", {"reward": math.nan, "strict": (0.1, math.inf)})
    assert read_json(tmp_path / "eval.json") == {"reward": None, "strict": [0.1, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]


def test_tokens_that_are_no_json_and_numbers_beyond_floats_are_read_as_none():
    assert parse_json("[NaN, Infinity, -Infinity, 1e999, -1e999, 1e-999]", "x") == [None] * 5 + [0.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b'{\n"a": 1,\n}', "line 3: not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "too long"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    (tmp_path / "eval.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(tmp_path / "eval.json")
    assert str(tmp_path / "eval.json") in str(caught.value)


@given(st.binary())
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "eval.json"
    path.write_bytes(content)
    message = ""
    try:
        read_json(path)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
