"""A vision-language model as judge, behind any OpenAI-compatible server (vLLM, SGLang): `--reward judge=judge.yaml`.

The file says where the server is and what to ask.
An answer without a score, or one out of range, is a failed reward and not a 0.
"""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor

from vgrpo.images import to_pil
from vgrpo.types import Prompt


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What judge.yaml may hold."""

    url: str
    """The server, e.g. http://localhost:8000."""
    model: str
    question: str
    """Asked with every image; `{prompt}` stands for its prompt."""
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

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"judge url={self.url}: must begin with http:// or https://")
        if "{prompt}" not in self.question:
            raise ValueError("judge question: must hold {prompt}, which stands for the image's prompt")
        if re.compile(self.pattern).groups < 1:
            raise ValueError(f"judge pattern={self.pattern!r}: needs a group, in parentheses, around the score")
        if not self.lowest < self.highest:
            raise ValueError(f"judge lowest={self.lowest}, highest={self.highest}: lowest must be below highest")


class Judge:
    """A reward that asks the server once per image, several at a time."""

    def __init__(self, settings: JudgeSettings, name: str = "judge") -> None:
        self.settings = settings
        self.__name__ = name
        try:
            self._get("/v1/models")
        except (urllib.error.URLError, OSError) as error:
            raise ConnectionError(
                f"reward {name}: no server answers at {settings.url} ({error}); start one, e.g. "
                f"`vllm serve {settings.model}`, or correct its address"
            ) from error

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]; NaN where no usable answer came."""
        with ThreadPoolExecutor(self.settings.num_parallel) as pool:
            return torch.tensor(list(pool.map(self._score, images, prompts)))

    def _score(self, image: Tensor, prompt: Prompt) -> float:
        body = self._body(image, prompt.text)
        for attempt in range(self.settings.num_tries):
            try:
                return self._parse(self._post(body))
            except (urllib.error.URLError, OSError, KeyError, IndexError, TypeError, json.JSONDecodeError):
                time.sleep(min(2.0**attempt, 10.0) / 10)
        return float("nan")

    def _body(self, image: Tensor, text: str) -> bytes:
        side = (self.settings.pixels, self.settings.pixels)
        buffer = BytesIO()
        to_pil(image).resize(side, Image.Resampling.BICUBIC).save(buffer, format="PNG")
        picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": self.settings.question.replace("{prompt}", text)},
        ]
        message = {"role": "user", "content": content}
        return json.dumps(
            {"model": self.settings.model, "messages": [message], "temperature": 0, "max_tokens": self.settings.max_tokens}
        ).encode()

    def _parse(self, answer: str) -> float:
        found = re.search(self.settings.pattern, answer)
        value = float(found.group(1)) if found else float("nan")
        return value if self.settings.lowest <= value <= self.settings.highest else float("nan")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.settings.url.rstrip("/") + path, timeout=self.settings.timeout) as response:
            return bytes(response.read())

    def _post(self, body: bytes) -> str:
        request = urllib.request.Request(
            self.settings.url.rstrip("/") + "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=self.settings.timeout) as response:
            answer: Any = json.loads(response.read())
        return str(answer["choices"][0]["message"]["content"])


def judge(source: str | None = None) -> Judge:
    """From a YAML file. Raises ValueError or FileNotFoundError for a bad one, ConnectionError if no server answers."""
    from vgrpo.settings import from_dict

    if source is None:
        raise ValueError("reward judge: name its settings, --reward judge=judge.yaml; docs/rewards.md shows one")
    if not Path(source).is_file():
        raise FileNotFoundError(f"reward judge: no file {source}; docs/rewards.md shows one")
    values = yaml.safe_load(Path(source).read_text())
    missing = [name for name in ("url", "model", "question") if name not in (values or {})]
    if missing:
        raise ValueError(f"reward judge: {source} lacks {', '.join(missing)}")
    return Judge(from_dict(JudgeSettings, values, "judge "))
