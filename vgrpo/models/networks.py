"""One part of a pipeline that has weights, from its folder."""

from pathlib import Path
from typing import Any

import torch

from vgrpo.models.folder import variant_of


def load_network(cls: Any, folder: Path, dtype: torch.dtype, **extra: Any) -> torch.nn.Module:
    """A part that has weights, of which none may be missing: the libraries would draw them at random. `extra` is what quantises
    it."""
    network: torch.nn.Module
    try:
        network, found = cls.from_pretrained(
            folder,
            torch_dtype=dtype,
            variant=variant_of(path.name for path in folder.iterdir()),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **extra,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a stranger's numbers in another library's code: it may stumble over anything
        raise damaged(folder, error) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(
            f"{folder}: its weights leave out {missing[0]} and {len(missing) - 1} more; copy or download the model again"
        )
    return network


def damaged(folder: Path, error: Exception) -> ValueError:
    why = " ".join(str(error).split())[:300] or type(error).__name__
    return ValueError(f"{folder}: damaged weights or configs ({why}); copy or download the model again")
