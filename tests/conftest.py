import os

import pytest
import torch
from helpers.tiny import tiny_pipeline

# Processes of pytest-xdist share the cores, and so do the processes that tests start. Threads of several processes on one core
# wait for each other ten times as long as they compute. The first process sets it for all: workers inherit its environment.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def pipeline():
    return tiny_pipeline()
