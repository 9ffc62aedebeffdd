"""Running out of GPU memory, said in a way that helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class GpuMemoryError(RuntimeError):
    """The GPU is too small for the job. `memory` is the GPU's, as `--gpu-memory` takes it; None where torch does not say."""

    def __init__(self, phase: str, error: torch.OutOfMemoryError) -> None:
        found = re.search(r"total capacity of ([\d.]+) GiB", str(error))
        self.memory = f"{found.group(1)}GB" if found else None
        of = f" of {self.memory}" if self.memory else ""
        super().__init__(f"the GPU's memory{of} ran out while {phase}")


@contextmanager
def out_of_memory_while(phase: str) -> Iterator[None]:
    """Raise GpuMemoryError, naming the phase, where torch runs out of GPU memory; the innermost of several names it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GpuMemoryError(phase, error) from error
