"""A run's folder is taken if it is empty, or if all in it is what a run left that was killed while it began."""

import pytest

from vgrpo.training.config import Config
from vgrpo.training.config_files import save_yaml
from vgrpo.training.folder import new_folder, open_folder


@pytest.mark.parametrize(
    "names", [[], [".lock"], [".lock", "checkpoints/"], [".lock", ".draft-99999999-config.yaml", "checkpoints/"]]
)
def test_what_a_killed_start_leaves_is_no_run(tmp_path, names):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    assert new_folder(folder, "sprites") == folder
    opened = open_folder(Config(output_dir=folder), resume=True, allow_changes=False, notice=lambda text: None)
    opened.lock.release()
    assert opened.loaded is None
    assert not list(folder.glob(".draft-*"))


@pytest.mark.parametrize("name", ["notes", "checkpoints/iteration-000001", "config.yaml", ".git"])
def test_anything_else_is_kept_from_a_new_run(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        new_folder(tmp_path, "sprites")


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
