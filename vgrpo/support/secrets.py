"""Passwords, keys and tokens do not belong into messages, logs and saved settings."""

import os
import re

HIDDEN = "***"
VARIABLES = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VGRPO_TOKEN")
SHORTEST = 6
"""Letters of a variable that is looked for; a shorter one would be found everywhere."""
NAMES = r"[\w-]*(?:token|key|secret|password|passwd|signature)"
PATTERNS = (
    re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^\s/@]*(?:@[^\s/@]+)*(?=@)", re.IGNORECASE),  # http://user:password@host
    re.compile(rf"(?P<keep>[?&;]{NAMES}=)[^\s&#;'\"]+", re.IGNORECASE),  # http://host/?token=...
    re.compile(r"(?P<keep>\bBearer\s+)[\w.~+/=-]+", re.IGNORECASE),
    re.compile(r"(?P<keep>)\b(?:sk|hf)[-_][\w-]{8,}"),  # how OpenAI's and Hugging Face's begin
)


def redact(text: str) -> str:
    """The text with *** for every secret: those in addresses and headers, and those of the environment."""
    for pattern in PATTERNS:
        text = pattern.sub(rf"\g<keep>{HIDDEN}", text)
    for name in VARIABLES:
        value = os.environ.get(name, "").strip()
        if len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return text
