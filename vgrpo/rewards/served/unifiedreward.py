"""UnifiedReward (arXiv:2503.05236), a vision-language model trained to score images: `--reward unifiedreward=http://HOST:8000`.

Published: the model, 512-pixel PNGs, temperature 0, and an answer that ends in "Final Score: " and a number from 1 to 5. The
wording of the question is ours, so its scores are not comparable with those that other wordings got.
"""

from vgrpo.rewards.served.judge import Judge, JudgeSettings

MODEL = "CodeGoat24/UnifiedReward-7b-v1.5"
QUESTION = """An image was generated for this caption: "{prompt}"
Rate it from 1 (worst) to 5 (best), fractions included, by two things: how well it shows what the caption says (objects,
their numbers, attributes and places), and how good it looks (sharp, well composed, free of distortions).
Reason briefly, then end with one line of this form, X being your rating:
Final Score: X"""


def unifiedreward(source: str | None, device: str) -> Judge:
    """From the address of a server. Raises ValueError for none or another thing, ConnectionError if it does not answer."""
    if source is None:
        raise ValueError(
            f"reward unifiedreward: give the server's address, e.g. --reward unifiedreward=http://localhost:8000; start one "
            f"with `vllm serve {MODEL}`"
        )
    settings = JudgeSettings(url=source, model=MODEL, question=QUESTION, lowest=1, highest=5, pixels=512, max_tokens=512)
    return Judge(settings, "unifiedreward")
