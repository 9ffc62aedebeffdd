"""A few runs of the benchmark that harms training jobs; its figures are those of hundreds."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_jobs_under_faults_end_as_undisturbed_ones(tmp_path):
    command = [sys.executable, "benchmarks/chaos.py", "--num-runs", "4", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok  ") == 4
