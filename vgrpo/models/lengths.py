"""Prompts that are longer than a text encoder reads."""

import warnings
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.models.policy import Policy

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def warn_of_cut_off(policy: Policy, prompts: list[Prompt]) -> None:
    """Warn, with their number, of prompts that no encoder of the pipeline reads to their end. Stable Diffusion 3 and FLUX give
    the text to CLIP (77 tokens) and to T5 (`max_sequence_length`, as for all but CLIP): what the longest reads is not lost."""
    pipeline: Any = policy.pipeline
    parts = [part for name in TOKENIZERS if (part := getattr(pipeline, name, None)) is not None]
    tokenizers = [getattr(part, "tokenizer", part) for part in parts]  # FLUX.2's is inside a processor
    length = policy.max_sequence_length
    limits = {part: part.model_max_length if "CLIP" in type(part).__name__ else length for part in tokenizers}
    if not limits or not prompts:
        return
    tokenizer, limit = max(limits.items(), key=lambda item: item[1])
    lengths = [len(ids) for ids in tokenizer([prompt.text for prompt in prompts], verbose=False).input_ids]
    count = sum(length > limit for length in lengths)
    if count:
        warnings.warn(
            f"{count} of {len(prompts)} prompts are longer than the {limit} tokens that the text encoder reads "
            f"(the longest has {max(lengths)}); what comes after is ignored",
            stacklevel=3,
        )
