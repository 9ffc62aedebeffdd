"""metrics.jsonl: torn ends are left out, other damage is named, and a resumed run goes on after its last line."""

import errno
import json
import math
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgrpo.training.record.metrics_file import MetricsFile, numbers, read


def line(iteration, **values):
    return {"iteration": iteration, "reward/mean": 0.1 * iteration} | values


def write(folder, count, start=0):
    with MetricsFile(folder, start) as file:
        for iteration in range(start, start + count):
            file.write(line(iteration))
    return folder / "metrics.jsonl"


def test_what_is_written_is_read(tmp_path):
    assert read(tmp_path) == ([], None)
    write(tmp_path, 3)
    assert read(tmp_path) == ([line(0), line(1), line(2)], None)
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_every_line_is_there_at_once(tmp_path):
    file = MetricsFile(tmp_path, 0)
    for iteration in range(3):
        file.write(line(iteration))
        assert len(read(tmp_path).lines) == iteration + 1


def test_a_resumed_run_keeps_the_lines_before_its_start(tmp_path):
    write(tmp_path, 5)
    with MetricsFile(tmp_path, 3) as file:
        assert file.past == [line(0), line(1), line(2)]
        assert file.note is None
        file.write(line(3, loss=1.0))
    assert read(tmp_path).lines == [line(0), line(1), line(2), line(3, loss=1.0)]
    write(tmp_path, 1, start=0)
    assert read(tmp_path).lines == [line(0)]


def test_lines_that_are_missing_are_told(tmp_path):
    write(tmp_path, 2)
    with MetricsFile(tmp_path, 5) as file:
        assert file.note.endswith("3 of the 5 iterations so far have no line; the first is 2")


@pytest.mark.parametrize("iteration", [0, 1, 2])
def test_an_iteration_has_one_line(tmp_path, iteration):
    write(tmp_path, 5)
    with MetricsFile(tmp_path, 2) as file:
        file.write(line(2))
        with pytest.raises(ValueError, match=f"has a line of iteration 2 already, so none of {iteration} may follow"):
            file.write(line(iteration))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(tmp_path, value):
    with MetricsFile(tmp_path, 0) as file:
        file.write(line(0, loss=value))
    content = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(content)["loss"] is None
    assert "NaN" not in content
    (read_line,) = read(tmp_path).lines
    assert math.isnan(numbers(read_line)["loss"])


def test_what_older_versions_wrote_is_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 0, "loss": NaN, "kl": -Infinity, "x": 1e999}\n')
    assert read(tmp_path).lines == [{"iteration": 0, "loss": None, "kl": None, "x": None}]


def test_a_line_torn_at_any_byte_is_left_out_and_noted(tmp_path):
    path = write(tmp_path, 3)
    data = path.read_bytes()
    begin = data[:-1].rindex(b"\n") + 1
    for end in range(begin + 1, len(data) - 1):
        path.write_bytes(data[:end])
        lines, note = read(tmp_path)
        if end < len(data) - 1:
            assert lines == [line(0), line(1)]
            assert note == f"{path}: its last line, 3, was torn and is left out"
    for tail in (b"\0" * 100, b"\xff\xfe"):  # what a power cut may leave
        path.write_bytes(data[:begin] + tail)
        assert read(tmp_path).note is not None
    path.write_bytes(data[:-1])  # whole but for its end
    assert read(tmp_path) == ([line(0), line(1), line(2)], None)
    assert [entry["iteration"] for entry in MetricsFile(tmp_path, 3).past] == [0, 1, 2]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"iteration": 1', "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"\0\0\0", "not JSON"),
        (b"[1]", "not the numbers of an iteration"),
        (b"{}", "not the numbers of an iteration"),
        (b'{"iteration": "1"}', "not the numbers of an iteration"),
        (b'{"iteration": true}', "not the numbers of an iteration"),
        (b'{"iteration": 1.5}', "not the numbers of an iteration"),
        (b'{"iteration": 1, "loss": "<b>"}', "loss is no number"),
        (b'{"iteration": 1, "loss": [1]}', "loss is no number"),
        (b'{"iteration": 0}', "iteration 0 after 0"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, reason):
    path = write(tmp_path, 4)
    lines = path.read_bytes().splitlines()
    lines[1] = broken
    path.write_bytes(b"\n".join(lines) + b"\n")
    for attempt in (lambda: read(tmp_path), lambda: MetricsFile(tmp_path, 4)):
        with pytest.raises(ValueError, match=rf"metrics.jsonl, line 2: {reason}.*; delete that line") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert path.read_bytes().splitlines() == lines  # left as it was
    # A run that goes on before the broken line does not mind it.
    assert MetricsFile(tmp_path, 1).past == [line(0)]


@given(st.binary(), st.integers(0, 5))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content, start):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "metrics.jsonl").write_bytes(content)
    for attempt in (lambda: read(folder), lambda: MetricsFile(folder, start)):
        message = ""
        try:
            attempt()
        except ValueError as error:
            message = str(error)
        assert "\n" not in message


def test_a_full_disk_takes_no_part_of_a_line(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        file, iteration = MetricsFile(folder, 0), 0
        with pytest.raises(OSError, match="No space left") as caught:  # noqa: PT012
            for iteration in range(1000):
                file.write(line(iteration, **{f"value/{index}": 1 / 3 for index in range(20)}))
        assert caught.value.errno == errno.ENOSPC
        assert [entry["iteration"] for entry in read(folder).lines] == list(range(iteration))
        assert read(folder).note is None
    finally:
        file.close()
        subprocess.run(["umount", str(folder)], check=True)


def test_a_failed_rewrite_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = write(tmp_path, 3)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        MetricsFile(tmp_path, 2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["metrics.jsonl"]
