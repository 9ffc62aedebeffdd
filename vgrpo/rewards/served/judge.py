"""A vision-language model as judge, behind any OpenAI-compatible server (vLLM, SGLang): `--reward judge=judge.yaml`.

The file says where the server is and what to ask.
An answer without a score, or one out of range, is a failed reward and not a 0.
"""

import base64
import json
import math
import os
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import open_picture, to_pil
from vgrpo.core.types import Prompt
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.served.yes_or_no import YES_OR_NO, yes_share
from vgrpo.support.checks import require, require_finite
from vgrpo.support.http.client import NO_ANSWER, fetch, reason_of
from vgrpo.support.http.hosts import checked_address
from vgrpo.support.http.strict import strict_json
from vgrpo.support.secrets import redact
from vgrpo.support.settings import from_dict
from vgrpo.support.textfiles import read_yaml

MARKUP = re.compile(r"[*`#\[\]]|__|~~")
"""Of Markdown, and brackets that a model copies from its instructions."""
PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between the first two tries, which double from try to try, and at most."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What judge.yaml may hold."""

    url: str
    """The server, e.g. http://localhost:8000; a /v1 behind it may stay."""
    model: str
    question: str
    """Asked with every image; `{prompt}` stands for its prompt."""
    score: Literal["number", "probability"] = "number"
    """What counts: the number in an answer, or how probable `Yes` is as its first word, against `No` (as in VQAScore,
    arXiv:2404.01291). The server has to give the log-probabilities of tokens."""
    pattern: str = r"Final Score:\s*(-?\d+(?:\.\d+)?)"
    """Regular expression whose first group is the score."""
    lowest: float = 1.0
    highest: float = 5.0
    pixels: int = 512
    """Side of the PNG that is sent."""
    timeout: float = 60.0
    """Seconds for one answer."""
    num_tries: int = 3
    num_parallel: int = 16
    max_tokens: int = 256
    """Of an answer with a number."""

    def __post_init__(self) -> None:
        require_finite(self, "judge ")
        checked_address(self.url, "judge url")
        require(bool(self.model.strip()), "judge model: name the model that the server serves")
        for name, most in {"pixels": 4096, "num_tries": 100, "num_parallel": 256, "max_tokens": 10**6}.items():
            value = getattr(self, name)
            require(1 <= value <= most, f"judge {name}={value}: must lie in 1 to {most}")
        require(0 < self.timeout < 1e6, f"judge timeout={self.timeout}: must be above 0 seconds")
        if "{prompt}" not in self.question:
            raise ValueError("judge question: must hold {prompt}, which stands for the image's prompt")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"judge pattern={self.pattern!r}: not a regular expression ({error})") from error
        if groups < 1:
            raise ValueError(f"judge pattern={self.pattern!r}: needs a group, in parentheses, around the score")
        if not self.lowest < self.highest:
            raise ValueError(f"judge lowest={self.lowest}, highest={self.highest}: lowest must be below highest")


class Judge:
    """A reward that asks the server once per image, several at a time."""

    num_at_once = 2
    """Calls: the requests of one begin as the last ones of another are still on their way."""

    def __init__(self, settings: JudgeSettings, name: str = "judge") -> None:
        self.settings = settings
        self.requests = ThreadPoolExecutor(settings.num_parallel)
        self.address = settings.url.rstrip("/").removesuffix("/v1").rstrip("/")
        self.__name__ = name
        try:
            models = self._models()
        except NO_ANSWER as error:
            raise ConnectionError(
                f"reward {name}: no server answers at {settings.url} ({reason_of(error)}); start one, e.g. "
                f"`vllm serve {settings.model}`, correct its address, or set OPENAI_API_KEY if it asks for a key"
            ) from error
        if models and settings.model not in models:
            raise ValueError(
                f"reward {name}: {settings.url} does not serve the model {settings.model}; it serves {', '.join(models)}. "
                "Name one of these, or start the server with --served-model-name"
            )

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]; NaN where no usable answer came. Raises RewardError, which says why, if that is so for every image."""
        scores, reasons = zip(*self.requests.map(self._score, images, prompts), strict=True)
        if all(reasons):
            raise RewardError(
                f"reward {self.__name__}: not one usable answer for {len(images)} images, the last: {reasons[-1]}"
            )
        return torch.tensor(scores)

    def judges(self, prompt: Prompt) -> bool:
        """Every prompt: an answer without a score is a failure, also for all images of a prompt."""
        return True

    def _models(self) -> list[str]:
        """What the server says it serves, if it says so."""
        content = strict_json(self._ask("/v1/models"))
        listed = content.get("data") if isinstance(content, dict) else None
        return [str(model["id"]) for model in listed or ()]

    def _score(self, image: Tensor, prompt: Prompt) -> tuple[float, str | None]:
        """The score and None, or NaN and why there is none."""
        body, reason = self._body(image, prompt), None
        for attempt in range(self.settings.num_tries):
            try:
                choice = strict_json(self._ask("/v1/chat/completions", body))["choices"][0]
                return yes_share(choice) if self.settings.score == "probability" else self._number(choice)
            except NO_ANSWER as error:
                reason = reason_of(error)
                if attempt + 1 < self.settings.num_tries:
                    time.sleep(min(PAUSE * 2**attempt, LONGEST_PAUSE))
        return float("nan"), reason

    def _number(self, choice: Any) -> tuple[float, str | None]:
        """The score in an answer, or NaN and why there is none. Raises one of NO_ANSWER for what is no answer."""
        answer = choice["message"]["content"]
        if not isinstance(answer, str):
            raise TypeError(f"the answer is a {type(answer).__name__} and not text")
        if choice.get("finish_reason") == "length":
            shown = redact(answer[-300:])
            return math.nan, f"an answer cut off at max_tokens={self.settings.max_tokens}; give more: {shown!r}"
        score = self._parse(answer)
        return score, f"an answer without a score in range: {redact(answer[:300])!r}" if math.isnan(score) else None

    def _body(self, image: Tensor, prompt: Prompt) -> bytes:
        """A source image comes first."""
        pictures = [to_pil(image)] if prompt.image is None else [open_picture(prompt.image), to_pil(image)]
        content: list[dict[str, Any]] = [self._picture(picture) for picture in pictures]
        content.append({"type": "text", "text": self.settings.question.replace("{prompt}", prompt.text)})
        message, settings = {"role": "user", "content": content}, self.settings
        asked = YES_OR_NO if settings.score == "probability" else {"max_tokens": settings.max_tokens}
        return json.dumps({"model": settings.model, "messages": [message], "temperature": 0} | asked).encode()

    def _picture(self, picture: Image.Image) -> dict[str, Any]:
        buffer = BytesIO()
        picture.resize((self.settings.pixels, self.settings.pixels), Image.Resampling.BICUBIC).save(buffer, format="PNG")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}

    def _parse(self, answer: str) -> float:
        """The last match, in any case, in the text without its markup, or as it is: reasoning may name other scores before."""
        texts = (MARKUP.sub("", answer), answer)
        found = [list(re.finditer(self.settings.pattern, text, re.IGNORECASE)) for text in texts]
        matches = found[0] or found[1]
        try:
            value = float(matches[-1].group(1)) if matches else float("nan")
        except (ValueError, TypeError):  # a pattern of the user's may find what is no number, or nothing
            value = float("nan")
        return value if self.settings.lowest <= value <= self.settings.highest else float("nan")

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY", "").strip():
            headers["Authorization"] = f"Bearer {key}"
        return fetch(urllib.request.Request(self.address + path, body, headers), self.settings.timeout)


def judge(source: str | None, device: str) -> Judge:
    """From a YAML file. Raises ValueError or FileNotFoundError for a bad one, ConnectionError if no server answers."""
    if source is None:
        raise ValueError("reward judge: name its settings, --reward judge=judge.yaml; docs/rewards.md shows one")
    if not Path(source).is_file():
        raise FileNotFoundError(f"reward judge: no file {source}; docs/rewards.md shows one")
    values = read_yaml(Path(source))
    missing = [name for name in ("url", "model", "question") if name not in values]
    if missing:
        raise ValueError(f"reward judge: {source} lacks {', '.join(missing)}")
    return Judge(from_dict(JudgeSettings, values, "judge "))
