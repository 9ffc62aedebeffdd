"""Encoded prompts on disk: a text encoder of many gigabytes runs once per prompt, not once per run."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vgrpo.core.types import Cond
from vgrpo.support.files import whole

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def text_encoders(pipeline: Any) -> list[torch.nn.Module]:
    parts = (getattr(pipeline, name, None) for name in ENCODERS)
    return [part for part in parts if isinstance(part, torch.nn.Module)]


def fingerprint(pipeline: Any, *settings: int | str) -> str:
    """What an encoded text depends on besides the text: the encoders' shapes and some of their weights, and settings."""
    digest = hashlib.blake2b(repr((type(pipeline).__name__, *settings)).encode(), digest_size=16)
    for encoder in text_encoders(pipeline):
        for name, parameter in encoder.named_parameters():
            some = parameter.detach().flatten()[:8].float().cpu().numpy().tobytes()
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode() + some)
    return digest.hexdigest()


class TextStore:
    """One file per text. A file is written whole or not at all, so that several runs may share the folder."""

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.key = folder, key

    def path(self, text: str) -> Path:
        return self.folder / f"{hashlib.blake2b(f'{self.key} {text}'.encode(), digest_size=16).hexdigest()}.safetensors"

    def read(self, text: str, device: torch.device) -> Cond | None:
        """The stored row, or None."""
        path = self.path(text)
        if not path.is_file():
            return None
        parts = load_file(path, device=str(device))
        return Cond(sequence=parts["sequence"], pooled=parts.get("pooled"), mask=parts.get("mask"))

    def write(self, text: str, cond: Cond) -> None:
        parts = {"sequence": cond.sequence, "pooled": cond.pooled, "mask": cond.mask}
        with whole(self.path(text)) as draft:
            save_file({name: value.contiguous() for name, value in parts.items() if value is not None}, draft)
