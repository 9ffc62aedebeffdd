"""Signals are noted and acted on where it is safe. Real signals, in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vgrpo.support.interrupts import EXIT_RESUMABLE, SIGNALS, Interrupts, StopRequested, ctrl_c_is_no_other_error

ROOT = Path(__file__).parents[2]
# A shell's background jobs ignore Ctrl-C, and so may the process that runs the tests.
START = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from vgrpo.support.interrupts import EXIT_RESUMABLE, Interrupts, StopRequested
def wait(interrupts, count=500):
    for _ in range(count):
        time.sleep(0.01)
        interrupts.check()
"""
STEPS = """
safe = False
try:
    with Interrupts() as interrupts:
        print("ready", flush=True)
        for step in range(100000):
            safe = False
            time.sleep(0.02)
            safe = True
            interrupts.check()
except StopRequested as request:
    print(request.signal, request, safe, flush=True)
    sys.exit(EXIT_RESUMABLE)
except KeyboardInterrupt:
    print("at once", flush=True)
    sys.exit(130)
"""
DEAF = """
try:
    with Interrupts() as interrupts:
        print("ready", flush=True)
        for _ in range(100):
            time.sleep(0.05)  # a reward that hangs: nothing is checked
            print(interrupts.noted, flush=True)
except KeyboardInterrupt:
    print("at once", signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
    sys.exit(130)
"""


@pytest.fixture
def start():
    processes = []

    def start_one(program):
        command = [sys.executable, "-c", START + program]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_between_steps_with_a_status_of_its_own(start, number):
    process = start(STEPS)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert output == f"{number.name} asked to stop by {number.name} True\n"
    assert errors == ""
    assert process.returncode == EXIT_RESUMABLE == os.EX_TEMPFAIL


def test_a_second_ctrl_c_leaves_at_once(start):
    process = start(DEAF)
    process.send_signal(signal.SIGINT)
    while process.stdout.readline() != "SIGINT\n":
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert output.endswith("at once True\n")
    assert errors == ""
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_schedulers_repeat_themselves_without_harm(start, number):
    process = start(DEAF)
    for _ in range(3):
        process.send_signal(number)
        while process.stdout.readline() != f"{number.name}\n":
            pass
    process.send_signal(signal.SIGINT)  # the first of its kind
    assert process.stdout.readline() == f"{number.name}\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_handlers_are_as_before_at_the_end(start):
    process = start(
        "mine = lambda number, frame: None\n"
        "signal.signal(signal.SIGTERM, mine)\n"
        "with Interrupts(): print('ready', flush=True)\n"
        "assert signal.getsignal(signal.SIGTERM) is mine\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    assert process.wait(30) == -signal.SIGUSR1


def test_of_two_nested_ones_the_inner_notes(start):
    process = start(
        "with Interrupts() as outer:\n"
        "    try:\n"
        "        with Interrupts() as inner: print('ready', flush=True); wait(inner)\n"
        "    except StopRequested: assert outer.noted is None\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.1)\n"
        "    assert outer.noted == 'SIGTERM'\n"
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_an_ignored_signal_stays_ignored(start):
    process = start(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with Interrupts() as interrupts:\n"
        "    print('ready', flush=True)\n"
        "    for _ in range(3): os.kill(os.getpid(), signal.SIGINT); wait(interrupts, 5)\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    assert process.wait(30) == 0


def test_in_another_thread_nothing_is_handled():
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def enter():
        with Interrupts() as interrupts:
            seen.extend(signal.getsignal(number) for number in SIGNALS)
            interrupts.check()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == before


def test_a_request_is_an_ordinary_exception():
    interrupts = Interrupts()
    interrupts.check()
    interrupts.noted = "SIGTERM"
    with pytest.raises(StopRequested, match="asked to stop by SIGTERM"):
        interrupts.check()
    assert issubclass(StopRequested, Exception)


def test_ctrl_c_of_which_a_library_makes_another_error_is_still_ctrl_c():
    def read_weights():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise OSError("damaged weights") from None

    def read_damaged_weights():
        raise OSError("really damaged")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ctrl_c_is_no_other_error():
            read_weights()
        with pytest.raises(OSError, match="really damaged"), ctrl_c_is_no_other_error():
            read_damaged_weights()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
