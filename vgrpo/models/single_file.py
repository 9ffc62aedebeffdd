"""A checkpoint in one file, as people share them, as a pipeline: read once, and saved as the folder that all else here takes.

diffusers has the maps of names. A file holds no configs and no tokenizers, and many hold the network alone: those come from the
base, a model of the same architecture.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vgrpo.models.classes import absent_parts, networks_of
from vgrpo.models.finite import check_finite
from vgrpo.models.folder import PICKLES, check_code
from vgrpo.models.hub import fetch_for_file, is_hub_id
from vgrpo.models.loading import load_rest
from vgrpo.models.networks import load_network
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.supported import model_folder
from vgrpo.support.checks import require

HALVES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
ANSWERS: dict[str, dict[str, Any]] = {"v_pred": {"prediction_type": "v_prediction"}, "ztsnr": {"rescale_betas_zero_snr": True}}
"""Keys of files of SDXL with which their authors say how the network was trained."""

HELD = {
    "vae": ("first_stage_model.", "vae."),
    "CLIP": ("cond_stage_model.", "conditioner.", "text_encoders.clip"),
    "T5": ("text_encoders.t5xxl.",),
}
"""How the names of a file's weights begin, by a pipeline's part or by a text encoder's kind."""


def read_single_file(path: Path, base: str | None) -> Any:
    """The pipeline of a `.safetensors` file, in the file's own number format; None as base is the one that diffusers names.

    Raises FileNotFoundError for a file or base that is not there; ValueError for a pickle, a quantised file, a base of another
    architecture, or weights that neither has.
    """
    keys, dtype = _contents(path)
    name = base or _named_base(path)
    folder = model_folder(name)
    if is_hub_id(name):
        folder = fetch_for_file(name)
    check_code(folder)
    networks: dict[str, Any] = dict.fromkeys(absent_parts(folder))
    with without_loading_chatter():
        for part, cls in networks_of(folder).items():
            networks[part] = (
                _load_part(path, folder, part, cls, dtype)
                if _holds(keys, part, cls)
                else _from_base(path, name, folder / part, cls, dtype)
            )
        pipeline = load_rest(folder, networks, {"default": dtype})
    check_finite(pipeline)
    said = {setting: value for key, answer in ANSWERS.items() if key in keys for setting, value in answer.items()}
    if said:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **said)
    return pipeline


def _holds(keys: set[str], part: str, cls: type) -> bool:
    """Whether a file has weights of a part; the trained network is always there."""
    starts = HELD.get(part) or next((starts for kind, starts in HELD.items() if cls.__name__.startswith(kind)), ())
    return part in ("unet", "transformer") or any(key.startswith(starts) for key in keys if starts)


def _load_part(path: Path, folder: Path, part: str, cls: type, dtype: torch.dtype) -> Any:
    """A part from the file, by diffusers' maps of names."""
    import diffusers.pipelines
    from diffusers.loaders.single_file import load_single_file_sub_model

    try:
        loaded = load_single_file_sub_model(
            library_name=cls.__module__.partition(".")[0],
            class_name=cls.__name__,
            name=part,
            checkpoint=load_file(path),  # anew, for the maps take out of it what they read
            pipelines=diffusers.pipelines,
            is_pipeline_module=False,
            cached_model_config_path=str(folder),
            local_files_only=True,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except NotImplementedError as error:  # weights without a value cannot be moved
        raise ValueError(_left_out(path, part)) from error
    except Exception as error:  # a stranger's names and shapes in another library's code: it may stumble over anything
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} cannot be read as a {cls.__name__} ({why}); give a --base of its architecture") from error
    require(not any(weight.is_meta for weight in loaded.parameters()), _left_out(path, part))
    torch.nn.Module.to(loaded, dtype)
    return loaded


def _left_out(path: Path, part: str) -> str:
    return f"{path} leaves out weights of the {part}: it is of another architecture than the base, or not whole"


def _from_base(path: Path, base: str, folder: Path, cls: type, dtype: torch.dtype) -> Any:
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{path} has no {folder.name}, and here are no weights of that of {base}; give a whole model as --base, as "
            "`hf download` fetches it"
        )
    return load_network(cls, folder, dtype)


def _contents(path: Path) -> tuple[set[str], torch.dtype]:
    """The tensors' names, and the format of their numbers."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give a checkpoint in one .safetensors file")
    require(
        path.suffix.lower() not in PICKLES,
        f"{path} is a pickle, which can run code when it is opened; take the model as .safetensors",
    )
    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            formats = [file.get_slice(key).get_dtype() for key in keys if len(file.get_slice(key).get_shape()) > 1]
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a file of safetensors ({error}); download it again") from error
    require(bool(formats), f"{path} holds no weights; download it again")
    most = max(set(formats), key=formats.count)
    require(most in HALVES, f"{path} is quantised ({most}); take the same model in fp16, bf16 or fp32")
    return set(keys), HALVES[most]


def _named_base(path: Path) -> str:
    """The hub's model whose configs diffusers takes for a file."""
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint

    return str(fetch_diffusers_config(load_single_file_checkpoint(str(path)))["pretrained_model_name_or_path"])
