import os

import pytest
import torch
from helpers.tiny import tiny_pipeline

# Workers of pytest-xdist share the cores, and so do the processes that they start. On a busy machine threads mostly wait for
# each other, so OMP_NUM_THREADS=1 holds where it is set.
threads = max(1, min(2, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
os.environ.setdefault("OMP_NUM_THREADS", str(threads))
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def pipeline():
    return tiny_pipeline()
