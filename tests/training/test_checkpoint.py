"""Checkpoints are whole or absent, damage is noticed, and an older good one is used."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgrpo.training.checkpoints import checkpoint
from vgrpo.training.checkpoints.checkpoint import CheckpointWriter, load, load_newest, save
from vgrpo.training.checkpoints.manifest import CheckpointError, check_files

ROOT = Path(__file__).parents[2]
FILES = ("manifest.json", "state.json", "state.safetensors")


def state_of(iteration, size=64):
    """A state in which all parts say of which iteration it is."""
    return {"weights": torch.full((size,), float(iteration)), "iteration": iteration, "rate": 0.1 * iteration}


def assert_is_of(loaded, iteration):
    assert loaded.iteration == loaded.state["iteration"] == iteration
    assert loaded.state["rate"] == 0.1 * iteration
    assert loaded.state["weights"].eq(iteration).all()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with good checkpoints of iterations 1 and 2."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    for iteration in (1, 2):
        save(state_of(iteration), folder, iteration)
    return folder


def test_the_newest_comes_back_and_the_newest_two_are_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    assert load_newest(folder) is None
    for iteration in (1, 2, 10):
        assert save(state_of(iteration), folder, iteration) == folder / f"iteration-{iteration:06d}"
        loaded = load_newest(folder)
        assert_is_of(loaded, iteration)
        assert (loaded.path, loaded.damaged) == (folder / f"iteration-{iteration:06d}", [])
        assert loaded.versions["torch"] == torch.__version__
    assert names(folder) == ["iteration-000002", "iteration-000010"]
    assert names(folder / "iteration-000010") == sorted(FILES)
    assert_is_of(load(folder, 2), 2)
    with pytest.raises(FileNotFoundError, match="no checkpoint of iteration 5; there are 2, 10"):
        load(folder, 5)


@pytest.mark.parametrize("keep", [1, 3])
def test_retention_counts_only_good_ones_and_looks_back(tmp_path, keep):
    for iteration in range(1, 4):
        save(state_of(iteration), tmp_path, iteration, keep=10)
    (tmp_path / "iteration-000003/state.json").write_text("{}")
    save(state_of(4), tmp_path, 4, keep=keep)
    good = {1: ["iteration-000004"], 3: ["iteration-000001", "iteration-000002", "iteration-000004"]}[keep]
    aside = [] if keep == 1 else ["damaged-iteration-000003"]
    assert names(tmp_path) == sorted(good + aside)


def test_going_back_does_not_delete_what_was_newer(tmp_path):
    for iteration in (5, 10, 15):
        save(state_of(iteration), tmp_path, iteration, keep=3)
    save(state_of(7), tmp_path, 7, keep=1)
    assert names(tmp_path) == ["iteration-000007", "iteration-000010", "iteration-000015"]


def test_the_same_iteration_takes_the_place_of_the_old_one(tmp_path):
    save(state_of(3, size=5), tmp_path, 3)
    save(state_of(3, size=7), tmp_path, 3)
    assert len(load(tmp_path, 3).state["weights"]) == 7
    assert names(tmp_path) == ["iteration-000003"]


# Damage -------------------------------------------------------------------------------------------------------------------


def flip(path, position=0.5, bit=0):
    data = bytearray(path.read_bytes())
    data[min(int(position * len(data)), len(data) - 1)] ^= 1 << bit
    path.write_bytes(data)


DAMAGES = {
    "first byte": lambda path: flip(path, 0.0),
    "last byte": lambda path: flip(path, 1.0),
    "middle": lambda path: flip(path, 0.5, 7),
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.rename(path.parent.parent / "elsewhere"), path.symlink_to("../elsewhere")),
    "of another": lambda path: shutil.copy(path.parent.parent / "iteration-000001" / path.name, path),
    "swapped": lambda path: shutil.copy(path.with_name(FILES[FILES.index(path.name) - 1]), path),
    "extra": lambda path: path.with_name("extra.bin").write_bytes(b"x"),
}


def assert_older_is_used(folder):
    loaded = load_newest(folder)
    assert_is_of(loaded, 1)
    aside = folder / "damaged-iteration-000002"
    assert loaded.damaged == [aside]
    assert aside.exists()
    assert str(folder / "iteration-000002") in loaded.notes[0]
    assert "\n" not in loaded.notes[0]
    again = load_newest(folder)  # the damaged one is never tried again
    assert_is_of(again, 1)
    assert again.damaged == []


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_noticed_and_the_older_one_used(two, tmp_path, file, kind):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    DAMAGES[kind](folder / "iteration-000002" / file)
    assert_older_is_used(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(FILES), position=st.floats(0, 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(two, tmp_path, file, position, bit):
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(two, folder)
    flip(folder / "iteration-000002" / file, position, bit)
    assert_older_is_used(folder)


@pytest.mark.parametrize("what", ["empty folder", "file", "renamed"])
def test_what_only_has_the_name_of_a_checkpoint_is_set_aside(two, tmp_path, what):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    newest = folder / "iteration-000002"
    if what == "renamed":
        shutil.rmtree(newest)
        shutil.copytree(folder / "iteration-000001", newest)
    else:
        shutil.rmtree(newest)
        newest.mkdir() if what == "empty folder" else newest.write_text("x")
    assert_older_is_used(folder)


def test_if_all_are_damaged_that_is_said_every_time(two, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for path in folder.iterdir():
        flip(path / "state.json")
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is damaged: .*iteration-000002 .*iteration-000001"
    ) as caught:
        load_newest(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="damaged-iteration-000001, damaged-iteration-000002"):
        load_newest(folder)
    assert names(folder) == ["damaged-iteration-000001", "damaged-iteration-000002"]


def test_a_second_damaged_one_of_an_iteration_is_kept_too(tmp_path):
    for _ in range(3):
        for iteration in (1, 2):
            save(state_of(iteration), tmp_path, iteration)
        flip(tmp_path / "iteration-000002/state.json")
        load_newest(tmp_path)
    assert [name for name in names(tmp_path) if name.startswith("damaged")] == [
        "damaged-iteration-000002",
        "damaged-iteration-000002-2",
        "damaged-iteration-000002-3",
    ]


def test_one_that_is_asked_for_is_refused_with_its_fault(two, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    flip(folder / "iteration-000001/state.safetensors")
    with pytest.raises(CheckpointError, match=r"iteration-000001 is damaged \(state.safetensors is not what was written"):
        load(folder, 1)


def test_what_a_desktop_leaves_in_a_folder_does_no_harm(two, tmp_path):
    shutil.copytree(two, tmp_path / "checkpoints")
    (tmp_path / "checkpoints/iteration-000002/.DS_Store").write_bytes(b"x")
    assert_is_of(load_newest(tmp_path / "checkpoints"), 2)


def test_files_of_earlier_and_later_versions_are_refused(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "iteration-000025.pt")
    for read in (load_newest, lambda folder: load(folder, 25)):
        with pytest.raises(CheckpointError, match=r"iteration-000025.pt was made by vgrpo 0.1; go on with that version"):
            read(tmp_path)
    (tmp_path / "iteration-000025.pt").unlink()
    monkeypatch.setattr("vgrpo.training.checkpoints.manifest.FORMAT", 3)
    save(state_of(1), tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="made by a newer vgrpo"):
        load_newest(tmp_path)
    assert names(tmp_path) == ["iteration-000001"]


# Writing ------------------------------------------------------------------------------------------------------------------


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    gate, writing = threading.Event(), checkpoint._write

    def slow(*arguments):
        assert gate.wait(30)
        return writing(*arguments)

    monkeypatch.setattr(checkpoint, "_write", slow)
    writer, state = CheckpointWriter(tmp_path, keep=2), state_of(1)
    path = writer.save(state, 1)
    state["weights"] += 1  # training goes on
    assert not path.exists()
    assert writer.saved is None
    assert writer.seconds_waited < 1
    threading.Timer(0.2, gate.set).start()
    writer.save(state_of(2), 2)  # waits for the first
    assert writer.saved in (path, tmp_path / "iteration-000002")
    assert writer.seconds_waited > 0.15
    writer.finish()
    assert writer.saved == tmp_path / "iteration-000002"
    for iteration in (1, 2):
        assert_is_of(load(tmp_path, iteration), iteration)


@pytest.mark.parametrize("failing", ["open", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failed_write_is_raised_once_and_harms_nothing(tmp_path, monkeypatch, failing, number):
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(state_of(1), 1, wait=True)

    def fails(*arguments, **settings):
        raise OSError(number, os.strerror(number))

    place = {"open": (Path, "open"), "fsync": (os, "fsync"), "rename": (Path, "rename")}[failing]
    monkeypatch.setattr(*place, fails)
    for attempt in (lambda: writer.save(state_of(2), 2, wait=True), lambda: writer.save(state_of(3), 3) and writer.finish()):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            attempt()
        assert caught.value.errno == number
    writer.save(state_of(4), 4)
    with pytest.raises(OSError, match=os.strerror(number)):
        writer.save(state_of(5), 5)
    writer.finish()  # said once
    monkeypatch.undo()
    assert names(tmp_path) == ["iteration-000001"]
    assert_is_of(load_newest(tmp_path), 1)
    writer.save(state_of(6), 6, wait=True)
    assert names(tmp_path) == ["iteration-000006"]


def test_a_state_that_no_file_can_hold_is_refused_at_once(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=1)
    with pytest.raises(TypeError, match="cannot hold x, a set"):
        writer.save({"x": {1}}, 1)
    writer.finish()
    assert names(tmp_path) == []


def test_a_replaced_one_survives_a_kill_between_two_renames(tmp_path):
    save(state_of(1), tmp_path, 1)
    (tmp_path / "iteration-000001").rename(tmp_path / ".replaced-iteration-000001")
    assert_is_of(load_newest(tmp_path), 1)
    shutil.copytree(tmp_path / "iteration-000001", tmp_path / ".replaced-iteration-000001")
    CheckpointWriter(tmp_path, keep=1)
    assert names(tmp_path) == ["iteration-000001"]


def test_drafts_of_the_dead_are_cleared_and_those_of_the_living_left(tmp_path):
    for pid in (os.getpid(), os.getppid(), 99999999, 10**30):
        (tmp_path / f".iteration-000001.{pid}").mkdir()
        (tmp_path / f".iteration-000001.{pid}/state.json").touch()
    assert load_newest(tmp_path) is None
    assert names(tmp_path) == [f".iteration-000001.{os.getppid()}"]


KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch
from vgrpo.training.checkpoints.checkpoint import CheckpointWriter
torch.set_num_threads(1)
read, write = os.pipe()
for seed, folder in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        writer = CheckpointWriter(Path(folder), keep=2)
        for iteration in range(1, 10000):
            state = {"weights": torch.full((1_000_000,), float(iteration)), "iteration": iteration, "rate": 0.1 * iteration}
            writer.save(state, iteration, wait=bool(seed % 2))
            if writer.saved is not None:
                os.write(write, b"%d\\n" % int(writer.saved.name[-6:]))
    seen = os.read(read, 100)  # the first one is in place
    time.sleep(0.013 * seed)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.set_blocking(read, False)
    try:
        seen += os.read(read, 100000)
    except BlockingIOError:
        pass
    os.set_blocking(read, True)
    print(seen.split()[-1].decode(), flush=True)
"""


def test_a_writer_that_is_killed_at_any_moment_leaves_whole_ones(tmp_path):
    folders = [tmp_path / f"{number}" for number in range(12)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    drafts = 0
    for folder, announced in zip(folders, map(int, done.stdout.split()), strict=True):
        drafts += any(name.startswith(".") for name in names(folder))
        loaded = load_newest(folder)
        assert_is_of(loaded, loaded.iteration)
        assert loaded.damaged == []
        assert loaded.iteration >= announced
        assert all(name.startswith("iteration-") for name in names(folder))
    assert drafts > 0  # some were killed in the middle of writing


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one megabyte, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_older_checkpoint_stays(tiny_disk):
    folder = tiny_disk / "checkpoints"
    writer = CheckpointWriter(folder, keep=2)
    for iteration, size in ((1, 50_000), (2, 50_000)):  # 0.2 MB each
        writer.save(state_of(iteration, size), iteration, wait=True)
    with pytest.raises(OSError, match="No space left") as caught:
        writer.save(state_of(3, 250_000), 3, wait=True)
    assert caught.value.errno == errno.ENOSPC
    assert names(folder) == ["iteration-000001", "iteration-000002"]
    assert_is_of(load_newest(folder), 2)
    writer.save(state_of(4, 50_000), 4, wait=True)  # there is space again
    assert names(folder) == ["iteration-000002", "iteration-000004"]


def test_a_disk_that_can_only_be_read_is_said_and_read(tiny_disk):
    folder = tiny_disk / "checkpoints"
    for iteration in (1, 2):
        save(state_of(iteration), folder, iteration)
    flip(folder / "iteration-000002/state.json")
    writer = CheckpointWriter(folder, keep=1)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(OSError, match="Read-only") as caught:
        writer.save(state_of(3), 3, wait=True)
    assert caught.value.errno == errno.EROFS
    loaded = load_newest(folder)
    assert_is_of(loaded, 1)
    assert loaded.damaged == [folder / "iteration-000002"]


def test_a_folder_that_is_deleted_in_mid_run_is_said(tmp_path):
    writer = CheckpointWriter(tmp_path / "run/checkpoints", keep=1)
    writer.save(state_of(1), 1, wait=True)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        writer.save(state_of(2), 2, wait=True)
    assert not (tmp_path / "run").exists()


def test_a_process_that_leaves_at_once_does_not_wait_for_the_thread(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from vgrpo.training.checkpoints import checkpoint\n"
        "checkpoint._write = lambda *_: time.sleep(60)\n"
        "checkpoint.CheckpointWriter(Path(sys.argv[1]), 1).save({}, 1)\n"
        "raise KeyboardInterrupt"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert b"KeyboardInterrupt" in done.stderr
    assert time.monotonic() - began < 50


def test_many_writers_in_folders_of_their_own(tmp_path):
    writers = [CheckpointWriter(tmp_path / str(number), keep=2) for number in range(8)]
    for iteration in range(5):
        for writer in writers:
            writer.save(state_of(iteration), iteration)
    for number, writer in enumerate(writers):
        writer.finish()
        assert_is_of(load_newest(tmp_path / str(number)), 4)
        assert len(names(tmp_path / str(number))) == 2


def test_a_reader_beside_a_writer_sees_only_whole_ones(tmp_path):
    stop = threading.Event()

    def write():
        writer, iteration = CheckpointWriter(tmp_path, keep=2), 0
        while not stop.is_set():
            iteration += 1
            writer.save(state_of(iteration, 10_000), iteration)
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while seen < 30 and thread.is_alive():
        for path in tmp_path.glob("iteration-*"):
            try:
                seen += check_files(path, contents=False)["iteration"] >= 0
            except CheckpointError:
                assert not path.exists()  # it was retired in the meantime
    stop.set()
    thread.join()
    assert seen >= 30
