"""The process of a worker: `python -m vgrpo.rewards.pool.worker FD THREADS NAME...`.

It loads rewards by their names, then answers what comes over the socket FD from the process that started it, and ends when that
is gone. What both send is pickled: they are one program, and nobody else reaches the socket.
"""

import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import CallFailed, Reward, RewardError, call
from vgrpo.rewards.registry import load_reward
from vgrpo.support.secrets import in_one_line

READY, REFUSED, SCORES, FAILED, BROKEN = "ready", "refused", "scores", "failed", "broken"
"""What a worker says: it has loaded its rewards, or could not; scores; a call that failed, or whose answer is none."""


def send_images(connection: Connection, index: int, images: Tensor, prompts: list[Prompt]) -> None:
    """A reward's number and images [B, 3, H, W] for it, bit for bit."""
    connection.send((index, images.dtype, tuple(images.shape), prompts))
    connection.send_bytes(images.detach().cpu().contiguous().view(torch.uint8).numpy().reshape(-1).data)


def work(connection: Connection, names: list[str]) -> None:
    """Raises EOFError or OSError when the other side is gone."""
    try:
        rewards = [load_reward(name, "cpu") for name in names]
    except BaseException as error:  # also SystemExit of a user's file
        connection.send((REFUSED, in_one_line(error)))
        return
    connection.send((READY, None))
    while True:
        connection.send(_answer(connection, rewards))


def _answer(connection: Connection, rewards: list[Reward]) -> tuple[str, Any]:
    head, pixels = connection.recv_bytes(), bytearray(connection.recv_bytes())
    try:
        index, dtype, shape, prompts = pickle.loads(head)
        values = call(rewards[index], torch.frombuffer(pixels, dtype=dtype).view(shape), prompts)
        return SCORES, values.numpy().tobytes()
    except RewardError as error:
        return BROKEN, str(error)
    except CallFailed as error:
        return FAILED, str(error)
    except Exception as error:  # prompts that hold what this process cannot import
        return FAILED, in_one_line(error)


def _leave_with(parent: int) -> None:
    """The one that started us may be killed while a reward is at work here, or hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    number, threads, parent, *names = sys.argv[1:]
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # schedulers send them to all; the run decides what they mean
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(int(parent),), daemon=True).start()
    torch.set_num_threads(int(threads))
    try:
        work(Connection(int(number)), names)
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
