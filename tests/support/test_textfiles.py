"""A file of settings that is malformed, or that is made to hurt: one clear line, soon, and in little memory."""

import string
import time
import tracemalloc

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgrpo.support.textfiles import DEEPEST, MOST_BYTES, read_text, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip(string.ascii_lowercase, "bcdefghi", strict=False)
)
NO_YAML = {
    # anchors, aliases, merge keys
    "alias bomb": BOMB,
    "anchor": "a: &x 1",
    "alias": "a: *x",
    "anchor and alias": "a: &x [1]\nb: *x",
    "anchor on a mapping": "a: &x\n  b: 1",
    "anchored name": "&x a: 1",
    "aliased name": "a: &x b\n*x : 2",
    "cycle": "a: &x [*x]",
    "cycle at the top": "&x a: *x",
    "merge key": "<<: {a: 1}",
    "merge with alias": "a: &x {b: 1}\nc:\n  <<: *x",
    # twice
    "twice": "seed: 1\nseed: 2",
    "twice within": "rollout:\n  num_steps: 1\n  num_steps: 2",
    "twice in braces": "{a: 1, a: 1}",
    "twice, once in quotes": "a: 1\n'a': 2",
    "twice, as number and text": "5: 1\n'5': 2",
    # names
    "a list as a name": "? [a, b]\n: 1",
    "a mapping as a name": "? {a: b}\n: 1",
    "no name": ": 1",
    "an empty name": "'': 1",
    # tags
    "python object": "a: !!python/object/apply:os.system [ls]",
    "python name": "a: !!python/name:os.system",
    "python tuple": "a: !!python/tuple [1]",
    "python module": "!!python/module:os : 1",
    "binary": "a: !!binary aGk=",
    "set": "a: !!set {b, c}",
    "ordered mapping": "a: !!omap [b: 1]",
    "pairs": "a: !!pairs [b: 1]",
    "text by its tag": "a: !!str 1",
    "number by its tag": "a: !!int x",
    "float by its tag": "a: !!float x",
    "null by its tag": "a: !!null x",
    "a tag of one's own": "a: !mine x",
    "a bare tag": "a: ! x",
    "an unknown handle": "a: !e!x y",
    "a broken tag": "a: !<x y",
    # numbers
    "infinity": "a: .inf",
    "minus infinity": "a: -.inf",
    "Infinity": "a: .Inf",
    "not a number": "a: .nan",
    "NaN": "a: .NaN",
    "a huge whole number": f"a: {'9' * 400}",
    "a whole number beyond 64 bits": "a: 9223372036854775808",
    "a huge float": "a: 1.0e+400",
    "a large float": "a: 1.0e+30",
    "five thousand digits": f"a: {'7' * 5000}",
    "an octal number": "a: 010",
    "a hexadecimal number": "a: 0x1F",
    "a binary number": "a: 0b11",
    "minutes": "a: 1:30",
    "minutes, as float": "a: 1:30.5",
    "underscores": "a: 1_000",
    # dates
    "a date": "a: 2024-01-02",
    "a date that there is not": "a: 2024-13-45",
    "a time": "a: 2024-01-02T03:04:05Z",
    "a date in a list": "a: [2024-01-02]",
    "an equals sign": "a: =",
    # characters
    "a null byte": "a: \0",
    "a bell": "a: \x07",
    "an escape": "a: \x1b[31m",
    "delete": "a: \x7f",
    "a tab for an indent": "a:\n\tb: 1",
    "a tab in the first column": "\ta: 1",
    "a lone surrogate in quotes": 'a: "\\ud800',
    "an unknown escape": 'a: "\\q"',
    "a short escape": 'a: "\\x1"',
    # structure
    "an open bracket": "a: [1, 2",
    "an open brace": "a: {b: 1",
    "a closed bracket": "a: ]",
    "crossed brackets": "a: [{]}",
    "an open quote": 'a: "b',
    "an open single quote": "a: 'b",
    "text behind a quote": 'a: "b" c',
    "two on a line": "a: b: c",
    "an odd indent": "a: 1\n  b: 2",
    "a list in a mapping": "a: 1\n- b",
    "a mapping in a list": "- a\nb: 1",
    "an at sign": "a: @b",
    "a backtick": "a: `b`",
    "a percent sign": "%a",
    "a wrong directive": "%YAML 9.9\n---\na: 1",
    "two documents": "a: 1\n---\nb: 2",
    "a wrong block": "a: |x\n b",
    "a comma": "a: [,]",
    "brackets in brackets": "a: " + "[" * 5000,
    "closed brackets in brackets": "a: " + "[" * 3000 + "]" * 3000,
    "braces in braces": "{a: " * 3000,
    "indents": "".join(" " * n + "a:\n" for n in range(200)),
    "dashes": "a:\n" + "- " * 2000 + "x",
    "just too deep": "a: " + "[" * DEEPEST + "]" * DEEPEST,
}
NO_SETTINGS = {
    "nothing": "",
    "blanks": "  \n\n",
    "a comment": "# a: 1",
    "a list": "- a\n- b",
    "a word": "seed",
    "a number": "5",
    "null": "null",
    "a tilde": "~",
    "yes": "yes",
    "an empty list": "[]",
    "a document end": "---\n...",
    "a byte order mark": "\ufeff",
}


def refused(path, content):
    """The error of reading it, after checking that it came soon and in little memory."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    begin = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            read_yaml(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 2
    assert most < 20e6
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


@pytest.mark.parametrize("text", NO_YAML.values(), ids=NO_YAML)
def test_what_is_no_yaml_of_settings_is_refused(tmp_path, text):
    assert "not YAML (" in refused(tmp_path / "run.yaml", text)


@pytest.mark.parametrize("text", NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_what_holds_no_settings_is_refused(tmp_path, text):
    assert "holds no settings; write them as lines of `name: value`" in refused(tmp_path / "run.yaml", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n\nseed: 2", "line 3: not YAML (seed is set twice; set it once)"),
        ("a: 1\nb: *a", "line 2: not YAML (anchors (&) and aliases (*) are not taken"),
        ("a: 1\nb: !!set {c}", "line 2: not YAML (the tag 'tag:yaml.org,2002:set' is not taken"),
        ("a: .inf", "line 1: not YAML (.inf must be a finite number of at most 2^63 - 1 in size)"),
        ("a: 1:30", "line 1: not YAML ('1:30' is no plain decimal number in range; put it in quotes if it is text)"),
        ("a: 2024-01-02", "line 1: not YAML ('2024-01-02' is neither plain text nor a number; put it in quotes"),
        ("a: 1\nb:\n  <<: {c: 1}", "line 3: not YAML (the name of a setting must be plain text)"),
        ("a: " + "[" * 60, "line 1: not YAML (more than 50 levels of brackets or indents"),
    ],
)
def test_the_line_and_the_remedy_are_named(tmp_path, text, message):
    assert message in refused(tmp_path / "run.yaml", text)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path):
    message = refused(tmp_path / "run.yaml", "a: 1\n" * MOST_BYTES)
    assert "327,680 bytes are no file of settings; it may have 65,536 at most" in message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: 1\nb: \xff", b"a: \xc3", "a: 1".encode("utf-16")])
def test_other_bytes_than_utf8_are_refused(tmp_path, content):
    assert "is not UTF-8; save the file as UTF-8" in refused(tmp_path / "run.yaml", content)


def test_the_longest_file_is_read_within_seconds(tmp_path):
    lines = "".join(f"setting_{n}: {n}\n" for n in range(3500))
    assert len(lines) < MOST_BYTES
    (tmp_path / "run.yaml").write_text(lines)
    begin = time.process_time()
    assert len(read_yaml(tmp_path / "run.yaml")) == 3500
    assert time.process_time() - begin < 5


def test_what_people_write_is_read(tmp_path):
    text = (
        "\ufeff# a run\nseed: -3\nupdate: {lr: 1.0e-4, betas: [0.9, .99]}\nreward:\n- 'a:b'\n- c\nlora: null\ncompile: yes\r\n"
    )
    (tmp_path / "run.yaml").write_text(text)
    assert read_yaml(tmp_path / "run.yaml") == {
        "seed": -3,
        "update": {"lr": 1e-4, "betas": [0.9, 0.99]},
        "reward": ["a:b", "c"],
        "lora": None,
        "compile": True,
    }
    assert read_text(tmp_path / "run.yaml").startswith("# a run")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e15, 1e15) | st.text(string.printable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner, max_size=3),
    max_leaves=8,
)
QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), PLAIN, min_size=1, max_size=4))
def test_what_is_saved_is_read_back(tmp_path, values):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    assert read_yaml(tmp_path / "run.yaml") == values


def is_settings_or_one_clear_line(path):
    try:
        values = read_yaml(path)
    except ValueError as error:
        return type(error) is ValueError and "\n" not in str(error)
    return isinstance(values, dict)


@QUICK
@given(st.text("ab:-[]{}&*!|>'\"%@`#,? \n\t01.", max_size=60))
def test_any_text_is_settings_or_one_clear_line(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    assert is_settings_or_one_clear_line(tmp_path / "run.yaml")


@QUICK
@given(st.binary(max_size=80))
def test_any_bytes_are_settings_or_one_clear_line(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    assert is_settings_or_one_clear_line(tmp_path / "run.yaml")
