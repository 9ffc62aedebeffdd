"""A run folder has one process, and a dead one holds nothing."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vgrpo.support.lock import LockedError, RunLock

ROOT = Path(__file__).parents[2]
HOLD = """
import signal, sys, time
from pathlib import Path
from vgrpo.support.lock import RunLock
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background would ignore
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    {then}
"""


@pytest.fixture
def start():
    """Start a process that takes a folder's lock and then does something."""
    processes = []

    def start_one(folder, then="time.sleep(60)"):
        command = [sys.executable, "-c", HOLD.format(then=then), str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path, start):
    holder = start(tmp_path)
    with pytest.raises(LockedError, match=f"process {holder.pid} on {socket.gethostname()}, since 20") as caught:
        RunLock(tmp_path).__enter__()
    assert isinstance(caught.value, OSError)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    assert f"`kill {holder.pid}`" in message
    assert "--output-dir" in message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_holds_nothing(tmp_path, start, number):
    for _ in range(2):
        holder = start(tmp_path)
        holder.send_signal(number)
        holder.wait()
        with RunLock(tmp_path):
            pass


def test_of_many_processes_that_start_at_once_one_gets_in(tmp_path):
    attempt = (
        "import sys, time; from pathlib import Path; from vgrpo.support.lock import LockedError, RunLock\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    with RunLock(Path(sys.argv[1])): print('in', flush=True); sys.stdin.readline()\n"
        "except LockedError as error: print('out', flush=True)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", attempt, str(tmp_path)], cwd=ROOT, **pipes) for _ in range(6)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sorted(answers) == ["in"] + ["out"] * 5


def test_a_second_run_of_the_same_process_is_refused_also_in_a_thread(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(LockedError, match=f"another run of this same process {os.getpid()}"):
            RunLock(tmp_path).__enter__()
        caught = []

        def attempt():
            try:
                RunLock(tmp_path).__enter__()
            except LockedError as error:
                caught.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert len(caught) == 1
    with RunLock(tmp_path):
        pass


def test_two_folders_have_two_locks(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        pass


def test_the_file_names_the_holder_and_is_empty_afterwards(tmp_path):
    def fail():
        with RunLock(tmp_path):
            content = json.loads((tmp_path / ".lock").read_text())
            assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / ".lock").read_text() == ""
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[" * 100, b"17", b"{}", b'{"pid": "x"}'])
def test_a_spoilt_file_spoils_neither_lock_nor_message(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(LockedError, match="is in use"):
            RunLock(tmp_path).__enter__()


def test_a_child_that_outlives_its_killed_parent_holds_nothing(tmp_path, start):
    forks = (
        "import os; read, write = os.pipe(); child = os.fork(); "
        "(os.read(read, 1), print(child, flush=True)) if child else os.write(write, b'x'); time.sleep(60)"
    )
    holder = start(tmp_path, then=forks)
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    try:
        os.kill(child, 0)
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_end_of_a_child_frees_nothing(tmp_path, method):
    context = multiprocessing.get_context(method)
    with RunLock(tmp_path) as lock:
        child = context.Process(target=os.getpid)
        child.start()
        child.join()
        if method == "fork":  # a child that leaves the parent's with-block
            pid = os.fork()
            if pid == 0:
                lock.__exit__(None, None, None)
                os._exit(0)
            os.waitpid(pid, 0)
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
        assert (tmp_path / ".lock").read_text() != ""


def test_a_file_system_without_locks_is_said_and_a_living_holder_still_refused(tmp_path, monkeypatch, start):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    holder = start(tmp_path)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(LockedError, match=f"process {holder.pid}"):
        RunLock(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    with RunLock(tmp_path) as lock:
        assert "has no locks (No locks available)" in lock.note
        assert str(tmp_path) in lock.note
        with pytest.raises(LockedError, match="this same process"):
            RunLock(tmp_path).__enter__()
    with RunLock(tmp_path):
        pass


def test_other_errors_are_raised_as_they_are(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        RunLock(tmp_path / "gone").__enter__()

    def fails(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fails)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        RunLock(tmp_path).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before
