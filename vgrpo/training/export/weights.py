"""The adapters that a run's folder holds: the newest in lora/, the best in lora-best/, earlier ones in its checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file

from vgrpo.models.lora_files import WEIGHTS, lora_file, read_header
from vgrpo.models.lora_reading import UP
from vgrpo.support.checks import require
from vgrpo.training.checkpoints.checkpoint import load


@contextmanager
def adapter_folder(run: Path, iteration: int | None, scale: float, *, best: bool = False) -> Iterator[Path]:
    """A folder with the adapter as a run's lora/ holds it: lora/ itself, lora-best/, or the averaged weights of a checkpoint in
    its names. `scale` is the run's alpha / rank, which files of adapters have in their weights.

    Raises FileNotFoundError if there is none of this iteration, or no best one, CheckpointError if it is damaged.
    """
    if best:
        if not (run / "lora-best").is_dir():
            raise FileNotFoundError(f"{run} holds no lora-best/: only runs with --eval.every keep their best adapter")
        yield run / "lora-best"
        return
    newest = lora_file(run / "lora", "the run")
    if iteration is None:
        yield run / "lora"
        return
    average = load(run / "checkpoints", iteration).state["average"]
    names = load_file(newest)
    network = next(iter(names)).partition(".")[0]
    state = {f"{network}.{name.replace('.default.', '.')}": value for name, value in average.items()}
    require(state.keys() == names.keys(), f"{run}: checkpoint {iteration} and lora/ hold other layers; is lora/ of this run?")
    state = {name: (value * scale if name.endswith(UP) else value).contiguous() for name, value in state.items()}
    with TemporaryDirectory(prefix="vgrpo-export-") as place:
        save_file(state, Path(place) / WEIGHTS, metadata=read_header(newest))
        yield Path(place)
