"""Work for processes of their own; a file that imports nothing, so that they start soon."""


def impossible_three(task, watch):
    watch(task)
    if task == 3:
        raise ValueError("task 3 is impossible")
