"""Training jobs under faults: python benchmarks/chaos.py --num-runs 300

Each run is a tiny job on the bundled model that something happens to: kill -9, signals, damaged files, a full disk, a second
run in its folder, a reward that fails, a reward's server that dies, a clock that jumps. It is then resumed to its end, as a
user would. Its final weights, scores and numbers must equal those of an undisturbed job bit for bit; no temporary file, no
process and no traceback may be left. A run's fault is drawn from its seed: --seed 17 repeats it. Prints a line per run, and
exits with status 1 if one failed.
"""

import argparse
import atexit
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "COLUMNS": "200"}

from chaos_faults import FAULTS, KINDS
from chaos_jobs import Job


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-runs", type=int, default=300)
    parser.add_argument("--seed", type=int, help="repeat this run alone")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--fault", choices=list(FAULTS), help="this fault alone")
    parser.add_argument("--keep", type=Path, help="a folder for what failed runs leave")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left in that case, too
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    seeds = range(options.first_seed, options.first_seed + options.num_runs) if options.seed is None else [options.seed]
    try:
        _import_all(place / "imports")
        undisturbed = Undisturbed(place)
        return _report([_one(seed, options.fault, place, undisturbed, options.keep) for seed in seeds])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _import_all(place: Path) -> None:
    """What a job imports on its way, by trying one. Nothing is computed here: torch's threads would not survive a fork."""
    job, known = Job(place), set(sys.modules)

    def write_names() -> None:
        atexit.register(lambda: (place / "modules").write_text("\n".join(name for name in sys.modules if name not in known)))

    assert job.start(write_names).wait() == 0, f"a job without any fault failed: {job.processes[0].output[-2000:]}"
    for name in (place / "modules").read_text().splitlines():
        if name.partition(".")[0] in ("vgrpo", "torch", "diffusers", "transformers", "peft", "accelerate", "scipy", "tyro"):
            with suppress(ImportError):
                importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy all of this process's memory


class Undisturbed:
    """What jobs of each kind come to when nothing happens to them, and how many seconds they compute."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.known: dict[str, tuple[dict[str, object], float]] = {}

    def __call__(self, kind: str) -> tuple[dict[str, object], float]:
        if kind not in self.known:
            job = Job(self.place / f"undisturbed-{kind}", kind)
            process, computed = job.start(), 0.0
            while process.poll() is None:
                computed = max(computed, process.computed())
                time.sleep(0.01)
            assert process.status == 0, f"the undisturbed job failed: {process.output[-2000:]}"
            print(f"an undisturbed {kind} computes for {computed:.1f} s", flush=True)
            job.check_traces()
            self.known[kind] = job.result(), computed
            _clear(job, None)
        return self.known[kind]


def _one(seed: int, fault: str | None, place: Path, undisturbed: Undisturbed, keep: Path | None) -> tuple[str, bool]:
    """Harm a job, finish it, compare it; prints its line."""
    random, began = Random(seed), time.monotonic()
    name = random.choice(list(FAULTS))
    name = fault or name
    kind, problem = KINDS.get(name, "run"), ""
    reference, cost = undisturbed(kind)
    job = Job(place / str(seed), kind)
    try:
        FAULTS[name](job, random, cost)
        job.finish()
        job.check_traces()
        found = job.result()
        differing = [part for part, value in reference.items() if found[part] != value and part not in job.lost]
        assert not differing, f"{', '.join(differing)} differ from the undisturbed job's"
    except (AssertionError, OSError, ValueError, KeyError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".removeprefix("AssertionError: ").split())
    statuses = " ".join(str(process.status) for process in job.processes)
    seconds = time.monotonic() - began
    print(f"seed {seed:4}  {name:20} {'FAILED  ' + problem if problem else 'ok'}  [{statuses}]  {seconds:.1f} s", flush=True)
    _clear(job, keep if problem else None)
    return name, not problem


def _clear(job: Job, keep: Path | None) -> None:
    for process in (*job.processes, *job.servers):
        process.send(9)
    if keep is not None:
        shutil.copytree(job.place, keep / job.place.name, dirs_exist_ok=True, symlinks=True)
    if job.run.is_mount():
        subprocess.run(["umount", "-l", job.run], check=True)
    shutil.rmtree(job.place, ignore_errors=True)


def _report(outcomes: list[tuple[str, bool]]) -> int:
    tried, failed = Counter(name for name, _ in outcomes), Counter(name for name, good in outcomes if not good)
    print(f"\n{'fault':20} runs failed")
    for name, count in sorted(tried.items()):
        print(f"{name:20} {count:4} {failed[name]:6}")
    print(f"{'all':20} {len(outcomes):4} {sum(failed.values()):6}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
