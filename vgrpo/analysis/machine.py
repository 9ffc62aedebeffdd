"""What this machine has, asked without waiting: no call here takes more than a few seconds or raises."""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread

import torch

GB = 2**30
PATIENCE = 2.0
"""Seconds for an answer of the driver, or of the hub."""
PACKAGES = {
    "bitsandbytes": "optimiser states in 8 bits, frozen networks in 4",
    "torchao": "frozen networks in 8 bits",
    "datasets": "prompts from Parquet files and the hub",
    "rapidocr": "the ocr reward",
    "tesserocr": "the ocr_tesseract monitor",
    "tensorboard": "--trackers tensorboard",
    "wandb": "--trackers wandb",
    "trackio": "--trackers trackio",
    "matplotlib": "vgrpo bench, vgrpo diagnose",
}
"""Optional ones, and what needs them."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    total: int
    """Bytes."""
    free: int
    bf16: bool


def gpus() -> list[Gpu]:
    """Those that torch can compute on."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        bf16 = torch.version.hip is not None or properties.major >= 8
        found.append(Gpu(name=properties.name, total=total, free=free, bf16=bf16))
    return found


def driver() -> str:
    """The version of NVIDIA's driver, or why there is none to see."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        return "none found (no nvidia-smi)"
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    lines = done.stdout.split("\n")
    return lines[0].strip() if done.returncode == 0 and lines[0].strip() else "does not answer (nvidia-smi failed)"


def built_for() -> str:
    """The GPUs that torch is built for."""
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "no GPU"


def main_memory() -> int | None:
    """Bytes, where the system says."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def free_disk(folder: Path) -> int | None:
    """Bytes where the folder is or would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def has_token() -> bool:
    from huggingface_hub import get_token

    with suppress(OSError):
        return bool(get_token())
    return False


def hub_access() -> str:
    """Whether the hub answers. A name server may keep one waiting for long, so a thread asks, and is left behind."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not asked, as HF_HUB_OFFLINE is set: models come from the cache alone"
    found: list[str] = []
    thread = Thread(target=lambda: found.append(_answer(constants.ENDPOINT)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found[0] if found else f"{constants.ENDPOINT} does not answer within {PATIENCE:g} s"


def _answer(address: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
            return f"{address} answers"
    except urllib.error.HTTPError as error:
        return f"{address} answers (status {error.code})"
    except (OSError, ValueError) as error:
        return f"{address} cannot be reached ({' '.join(str(error).split())[:100]})"


def packages() -> dict[str, str | None]:
    """The versions of optional packages, None for one that is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def python() -> str:
    return f"Python {sys.version.split()[0]}, torch {torch.__version__}, built for {built_for()}"
