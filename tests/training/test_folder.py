"""A run's folder is taken if it is empty, or if all in it is what a run left that was killed while it began."""

import errno
import os
import re
from pathlib import Path

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.support.files import write_whole
from vgrpo.support.lock import holder_of
from vgrpo.training.folder import free_folder, open_folder
from vgrpo.training.loop import train
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import save_yaml
from vgrpo.training.start import Given, start_run


@pytest.mark.parametrize(
    "names", [[], [".lock"], [".lock", "checkpoints/"], [".lock", ".draft-99999999-config.yaml", "checkpoints/"]]
)
def test_what_a_killed_start_leaves_is_no_run(tmp_path, names):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    assert free_folder(folder, "sprites") == folder
    opened = open_folder(Config(output_dir=folder), resume=True, allow_changes=False, notice=lambda text: None)
    opened.lock.release()
    assert opened.loaded is None
    assert not list(folder.glob(".draft-*"))


@pytest.mark.parametrize("name", ["notes", "checkpoints/iteration-000001", "config.yaml", ".git"])
def test_anything_else_is_kept_from_a_new_run(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        free_folder(tmp_path, "sprites")


def test_a_kill_while_settings_are_written_again_keeps_the_old_ones(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    save_yaml(Config(), path)
    before = path.read_text()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_yaml(Config(seed=3), path)
    assert path.read_text() == before


# Starts that fail ---------------------------------------------------------------------------------------------------------


def fails(images, prompts):
    raise ValueError("no judge today")


def start(folder, reward=red, **changes):
    return start_run(tiny_config(folder, **changes), Given(pipeline=tiny_pipeline(), reward=reward, prompts=PROMPTS))


def test_a_folder_made_for_a_start_that_failed_is_gone(tmp_path):
    with pytest.raises(ValueError, match="no judge today"):
        start(tmp_path / "deep/er/run", fails)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_ends_the_processes_of_rewards(tmp_path):
    def judge(images, prompts):
        return torch.full((len(images),), torch.nan)

    ended = []
    judge.end_workers = lambda: ended.append("abstains")
    with pytest.raises(ValueError, match="abstained"):
        start(tmp_path / "run", judge)
    judge.judges = lambda prompt: False
    judge.end_workers = lambda: ended.append("judges nothing")
    with pytest.raises(ValueError, match="are none that the reward"):
        start(tmp_path / "run", judge)
    assert ended == ["abstains", "judges nothing"]


def test_an_interrupt_while_rewards_end_lets_go_of_the_folder(tmp_path):
    def judge(images, prompts):
        return red(images, prompts)

    def interrupted():
        raise KeyboardInterrupt

    judge.end_workers = interrupted
    run = start(tmp_path / "run", judge)
    with pytest.raises(KeyboardInterrupt):
        run.close()
    assert holder_of(tmp_path / "run") is None


def test_a_folder_that_was_there_stays_and_takes_the_next_start(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match="no judge today"):
        start(folder, fails)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    start(folder).close()


def test_what_somebody_put_there_meanwhile_is_kept(tmp_path):
    folder = tmp_path / "run"

    def writes_and_fails(images, prompts):
        (folder / "notes.txt").write_text("mine")
        raise ValueError("no judge today")

    with pytest.raises(ValueError, match="no judge today"):
        start(folder, writes_and_fails)
    assert (folder / "notes.txt").read_text() == "mine"


# Disks that refuse --------------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only(monkeypatch):
    """Lets every writing of a file whose path fits a pattern fail as on a read-only file system."""

    def make(pattern):
        opened, made = os.open, Path.mkdir

        def refuse(path):
            if re.search(pattern, str(path)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        def open_(path, flags, *more, **options):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                refuse(path)
            return opened(path, flags, *more, **options)

        def mkdir(path, *more, **options):
            refuse(path)
            made(path, *more, **options)

        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(Path, "mkdir", mkdir)

    return make


def test_a_run_whose_checkpoints_are_refused_says_which_and_what_is_saved(tmp_path, read_only):
    folder = tmp_path / "run"
    read_only(r"iteration-00000[1-9]")
    with pytest.raises(OSError, match="can only be read") as caught:
        train(tiny_config(folder, checkpoint_every=1), Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    said = str(caught.value)
    assert str(folder / "checkpoints/.iteration-00000") in said
    assert f"Saved last is {folder}/checkpoints/iteration-000000. Mount it for writing" in said
    assert said.endswith("then go on with --resume.")


def test_a_folder_that_cannot_be_locked_says_so_at_the_start(tmp_path, read_only):
    read_only(r"/\.lock$")
    with pytest.raises(OSError, match="can only be read") as caught:
        start(tmp_path / "run")
    assert f"{tmp_path}/run/.lock" in str(caught.value)
    assert "Nothing was saved before. Mount it for writing" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_names_its_newest_checkpoint(tmp_path, read_only):
    folder = tmp_path / "run"
    (folder / "checkpoints/iteration-000007").mkdir(parents=True)
    write_whole(folder / "config.yaml", "")
    read_only(r"/\.lock$")
    with pytest.raises(OSError, match=r"Saved last is .*iteration-000007.*--resume"):
        start_run(tiny_config(folder), Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS), resume=True)
