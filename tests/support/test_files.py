"""Files are written whole or not at all, and errors of the disk are said in one line."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vgrpo.support.files import CAUSES, clear_drafts, explain, whole, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_text_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "eval.json"
    for text in ("old", "new"):
        write_whole(path, text)
        assert path.read_text() == text
    assert names(tmp_path) == ["eval.json"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_draft(tmp_path, kind):
    path = tmp_path / "eval.json"
    path.write_text("old")

    def fail():
        with whole(path) as draft:
            draft.write_text("half of")
            raise kind

    with pytest.raises(kind):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["eval.json"]


def test_an_exception_before_the_first_byte_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(ValueError, match="early"), whole(tmp_path / "eval.json"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "eval.json"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["eval.json"]


def test_a_killed_writer_leaves_the_old_file_and_its_draft_is_cleared(tmp_path):
    path = tmp_path / "eval.json"
    path.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from vgrpo.support.files import whole\n"
        "with whole(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half of')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    clear_drafts(tmp_path)
    assert names(tmp_path) == ["eval.json"]


def test_drafts_of_the_living_and_what_only_looks_like_one_stay(tmp_path):
    kept = [f".draft-{os.getppid()}-eval.json", ".draft-notes", "draft-1-eval.json", "eval.json.99999999"]
    for name in (*kept, f".draft-{os.getpid()}-eval.json", ".draft-99999999-a", f".draft-{10**30}-b"):
        (tmp_path / name).touch()
    clear_drafts(tmp_path)
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("number", CAUSES)
def test_an_error_of_the_disk_is_one_line_with_cause_saved_state_and_remedy(number):
    error = OSError(number, os.strerror(number))
    line = explain(error, Path("runs/a/metrics.jsonl"), "checkpoints/iteration-000025")
    assert line.startswith("runs/a/metrics.jsonl: ")
    assert "\n" not in line
    assert "Saved last is checkpoints/iteration-000025" in line
    assert line.endswith("then go on with --resume.")
    assert "Nothing was saved" in explain(error, Path("runs/a"), None)


def test_an_error_that_names_its_file_is_about_that_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "gone/eval.json", "new")
    line = explain(caught.value, Path("runs/a"), "checkpoints/iteration-000003")
    assert str(tmp_path / "gone") in line
    assert "deleted or moved" in line


def test_an_unknown_error_is_said_as_the_system_says_it():
    assert "Too many open files" in explain(OSError(errno.EMFILE, "Too many open files"), Path("a"), None)
    assert "odd" in explain(OSError("odd"), Path("a"), None)
