"""A prompt is one line of text: what would break a table, a terminal or a file of prompts never gets into one."""

import dataclasses
import re
import unicodedata

from vgrpo.core.types import Prompt

BREAKS = "\t\n\v\f\r\x85"  # they separate words, so a space takes their place
REFUSED = ("Cc", "Cs")  # control characters, and halves of a character that no file can hold


def clean_text(text: str, where: str) -> str:
    """The text on one line. Raises ValueError, naming the place, for any other control character."""
    if any(mark in text for mark in BREAKS):
        text = " ".join(part.strip(" ") for part in re.split(f"[{BREAKS}]", text) if part.strip(" "))
    for character in text:
        if unicodedata.category(character) in REFUSED:
            raise ValueError(f"{where}: the prompt holds the control character U+{ord(character):04X}; take it out")
    return text


def clean_prompt(prompt: Prompt, where: str) -> Prompt:
    """The prompt with its text cleaned, also where its metadata repeats it."""
    text = clean_text(prompt.text, where)
    if text == prompt.text:
        return prompt
    metadata = prompt.metadata | ({"prompt": text} if "prompt" in prompt.metadata else {})
    return dataclasses.replace(prompt, text=text, metadata=metadata)
