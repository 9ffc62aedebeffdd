"""How probable `Yes` is, by the log-probabilities that an OpenAI-compatible server gives for its first token."""

import math
from typing import Any

YES_OR_NO = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
"""What a request asks for: the 20 most probable first tokens, the most that OpenAI's and vLLM's servers give by default."""


def word_of(token: str) -> str:
    """Without a tokenizer's mark of a space before it, case and punctuation."""
    return token.strip(" \n\t.,!\u2581\u0120").lower()


def yes_share(choice: Any) -> tuple[float, str | None]:
    """P(yes) / (P(yes) + P(no)) of a choice, over all spellings (`Yes`, ` yes`, `YES`), and None; or NaN and why there is none.

    Raises KeyError, IndexError, TypeError or ValueError for a choice without log-probabilities.
    """
    listed = (choice.get("logprobs") or {}).get("content")
    if not listed:
        raise ValueError("the answer has no `logprobs`; serve a model with log-probabilities, or let it answer with a number")
    mass = {"yes": 0.0, "no": 0.0}
    for entry in listed[0]["top_logprobs"]:
        word, logprob = word_of(str(entry["token"])), float(entry["logprob"])
        if word in mass and not math.isnan(logprob):
            mass[word] += math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    if total == 0.0:
        words = ", ".join(repr(str(entry["token"])[:20]) for entry in listed[0]["top_logprobs"][:5])
        return math.nan, f"neither Yes nor No among the first words of the answer, which are {words}"
    return mass["yes"] / total, None
