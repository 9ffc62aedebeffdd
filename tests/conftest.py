import os

import pytest
import torch
from helpers.tiny import tiny_pipeline

# Workers of pytest-xdist share the cores, and so do the processes that they start.
threads = max(1, min(2, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
torch.set_num_threads(threads)
os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.fixture
def pipeline():
    return tiny_pipeline()
