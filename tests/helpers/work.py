"""Work for processes of their own; a file that imports nothing, so that they start soon."""

import os
import time


def impossible_three(task, watch):
    watch(task)
    if task == 3:
        raise ValueError("task 3 is impossible")


def name_yourself(task, watch):
    """Tells which process this is, and does not end."""
    watch(os.getpid())
    time.sleep(600)
