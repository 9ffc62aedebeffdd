"""Which checkpoints a page may choose from, what their pictures score, and the export of one of them."""

from typing import Any, get_args

from vgrpo.pages.held_out import Point, point_of
from vgrpo.pages.run_files import RunFiles, number
from vgrpo.support.checks import require
from vgrpo.support.secrets import redact
from vgrpo.workbench.pictures import sample_sets
from vgrpo.workbench.remake import told
from vgrpo.workbench.runs import Run, shown


class HeldOut:
    """What the sample pictures of each run's checkpoints score, read once for each stamp of their file."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str | None, Point | None]] = {}

    def points(self, run: Run) -> list[Point]:
        files, found = run.files(), list[Point]()
        for part in sample_sets(files):
            key, stamp = (run.id, part), files.stamp(f"samples/{part}/scores.json")
            if key not in self._known or self._known[key][0] != stamp:
                self._known[key] = stamp, point_of(files, part)
            point = self._known[key][1]
            if point is not None:
                found.append(point)
        return found


def held_out_entry(run: Run, points: list[Point]) -> dict[str, Any]:
    """Columns over the checkpoints with pictures, as the charts take them, and the iterations whose weights are kept."""
    files = run.files()
    names = list(dict.fromkeys(name for point in points for name in point.means))
    columns: dict[str, list[float | None]] = {shown(name): [point.means.get(name) for point in points] for name in names}
    columns["reward/error"] = [point.error for point in points]
    return {
        "iterations": [point.iteration for point in points],
        "columns": columns,
        "num_prompts": points[-1].num_prompts if points else 0,
        "num_images": points[-1].num_images if points else 0,
        "kept": _kept(files),
        "newest": files.stamp("lora/pytorch_lora_weights.safetensors") is not None,
        "trained": "pipeline" if files.settings()[1].get("finetune") == "full" else "lora",
    }


def _kept(files: RunFiles) -> list[int]:
    """By the names alone: whether a checkpoint is whole is found when it is read."""
    numbers = (name.removeprefix("iteration-") for name in files.names("checkpoints") if name.startswith("iteration-"))
    return sorted(int(text) for text in numbers if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0)


def export_from_page(run: Run, content: dict[str, Any]) -> dict[str, Any]:
    """What `vgrpo export` does, into a folder of the run; returns where, and the command that does it again.

    Raises ValueError for what cannot be exported, or would import a stranger's code, and OSError as the export does.
    """
    from vgrpo.models.lora_export import Format
    from vgrpo.training.export.export import DTYPES, ExportConfig, export
    from vgrpo.training.settings.config_files import named_code

    form, dtype, iteration = content.get("format", "diffusers"), content.get("dtype", "fp32"), content.get("iteration")
    formats, dtypes = get_args(Format), tuple(DTYPES)
    require(form in formats and dtype in dtypes, f"a format is one of {', '.join(formats)}, numbers are {', '.join(dtypes)}")
    known = iteration is None or (number(iteration) is not None and iteration == int(iteration))
    require(known, "an iteration is a whole number")
    config = ExportConfig(format=form, dtype=dtype, iteration=None if iteration is None else int(iteration))
    files, target = run.files(), config.target(run.folder)
    for name in ("config.yaml", "lora", "checkpoints", target.name):
        require(files.inside(name), f"{run.folder / name} leads out of the run's folder; export on the command line")
    code = [name for setting, name in named_code(run.folder / "config.yaml") if setting == "objective"]
    require(
        not code, f"the settings name the algorithm {', '.join(code)}: to read them runs its code; export on the command line"
    )
    words = ["vgrpo", "export", str(run.folder), "--format", form, "--dtype", dtype]
    words += [] if iteration is None else ["--iteration", str(int(iteration))]
    return {"folder": redact(str(export(run.folder, config))), "command": told(words)}
