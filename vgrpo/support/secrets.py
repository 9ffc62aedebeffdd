"""Passwords, keys and tokens do not belong into messages, logs and saved settings."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

HIDDEN = "***"
VARIABLES = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VGRPO_TOKEN")
SHORTEST = 6
"""Letters of a variable that is looked for; a shorter one would be found everywhere."""
NAMES = r"[\w-]*(?:token|key|secret|password|passwd|signature)"
ADDRESS = (
    re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^\s/@]*(?:@[^\s/@]+)*(?=@)", re.IGNORECASE),  # http://user:password@host
    re.compile(rf"(?P<keep>[?&;]{NAMES}=)[^\s&#;'\"]+", re.IGNORECASE),  # http://host/?token=...
    re.compile(r"(?P<keep>\bBearer )[\w.~+/=-]+"),
)
PATTERNS = (*ADDRESS, re.compile(r"(?P<keep>)\b(?:sk|hf)[-_][\w-]{8,}"))  # how OpenAI's and Hugging Face's begin
SURE = (*ADDRESS, re.compile(r"\b(?:hf_|sk-(?:\w+-)*)(?=[A-Za-z]*\d)[A-Za-z0-9]{16,}"))
"""What is no name of a folder: `hf_models_cache` is hidden in a message, and may still be a setting."""


def redact(text: str) -> str:
    """The text with *** for every secret: those in addresses and headers, and those of the environment."""
    for pattern in PATTERNS:
        text = pattern.sub(rf"\g<keep>{HIDDEN}", text)
    for value in _known():
        text = text.replace(value, HIDDEN)
    return text


def in_one_line(error: BaseException) -> str:
    """An error's kind and its text, in one line that tells no secret."""
    return redact(" ".join(f"{type(error).__name__}: {error}".split()))[:500]


def require_no_secret(settings: Any, section: str = "") -> None:
    """Raise ValueError for a setting that holds a secret, since settings are saved and shown. `section` is as "lora."."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str | Path) and _holds_secret(str(text)):
                raise ValueError(
                    f"{section}{field.name}={redact(str(text))}: holds a password, key or token, and would be saved and shown; "
                    f"leave it out, and put it into the environment ({', '.join(VARIABLES)})"
                )


def _holds_secret(text: str) -> bool:
    return any(pattern.search(text) for pattern in SURE) or any(value in text for value in _known())


def _known() -> list[str]:
    """The secrets of the environment."""
    values = [os.environ.get(name, "").strip() for name in VARIABLES]
    return [value for value in values if len(value) >= SHORTEST]
