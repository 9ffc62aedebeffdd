"""A reward in a process of its own, on this machine or another: `vgrpo serve-reward NAME`, then `--reward remote=http://HOST:PORT`.

A request is a safetensors file with 8-bit `images` [B, 3, H, W] and the prompts as JSON in its header; the answer is JSON with
`scores`, null where the reward failed.
"""

import json
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward, RewardError, score_images
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.answers import NO_ANSWER, told

MOST_BYTES = 2**31


def pack(images: Tensor, prompts: list[Prompt]) -> bytes:
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte().contiguous()
    texts = json.dumps([{"text": prompt.text, "metadata": prompt.metadata} for prompt in prompts], default=str)  # e.g. dates
    return save({"images": pixels}, {"prompts": texts})


def unpack(body: bytes) -> tuple[Tensor, list[Prompt]]:
    """Raises SafetensorError, KeyError, TypeError or ValueError for what `pack` did not write."""
    images = load(body)["images"]
    size = int.from_bytes(body[:8], "little")
    prompts = [Prompt(**item) for item in json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["prompts"])]
    if images.dtype != torch.uint8 or images.dim() != 4 or len(images) != len(prompts):
        raise ValueError(f"images {list(images.shape)} of type {images.dtype} for {len(prompts)} prompts")
    return images.float() / 255, prompts


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a reward to training runs."""

    host: str = "127.0.0.1"
    """0.0.0.0 lets other machines in: anyone who reaches the port may ask."""
    port: int = 8100
    device: str = "auto"
    """Where the reward's models compute: cuda:1, cpu; auto is cuda where there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"--port {self.port}: must lie in 0 to 65535; 0 takes any that is free")


def make_server(name: str, config: ServeConfig) -> ThreadingHTTPServer:
    """A server that has loaded the reward and waits. Raises ValueError or FileNotFoundError as `load_reward`, OSError if the
    port is taken."""
    reward, lock = load_reward(name, config.device), Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"reward": name})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length < MOST_BYTES:
                self._answer(413, {"error": f"{length} bytes"})
                return
            try:
                images, prompts = unpack(self.rfile.read(length))
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                self._answer(400, {"error": f"{type(error).__name__}: {error}"})
                return
            with lock:  # one batch at a time on the reward's device
                answer = _score(reward, images, prompts)
            self._answer(200, answer)

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return  # a line per request would bury what matters

    return ThreadingHTTPServer((config.host, config.port), Handler)


def _score(reward: Reward, images: Tensor, prompts: list[Prompt]) -> dict[str, Any]:
    """What a request is answered with; if the reward failed on all its images, also why."""
    try:
        values = score_images(reward, images, prompts).tolist()
    except RewardError as error:
        return {"scores": [None] * len(images), "error": str(error)}
    return {"scores": [None if value != value else value for value in values]}


def serve(name: str, config: ServeConfig) -> None:
    server = make_server(name, config)
    print(f"{name} at http://{config.host}:{server.server_address[1]}; train with --reward remote=http://HOST:PORT", flush=True)
    with server:
        server.serve_forever()


class Remote:
    """The client. Asks in batches, tries again when no usable answer comes, then gives up on that batch: NaN."""

    def __init__(
        self, url: str, *, batch_size: int = 64, timeout: float = 300.0, num_tries: int = 3, pause: float = 2.0
    ) -> None:
        self.url, self.batch_size, self.timeout = url.rstrip("/"), batch_size, timeout
        self.num_tries, self.pause = num_tries, pause
        try:
            self.__name__ = str(self._ask(None)["reward"])
        except NO_ANSWER as error:
            raise ConnectionError(
                f"reward remote={url}: no reward server answers there ({told(error)}); start one with "
                "`vgrpo serve-reward NAME`, or correct its address"
            ) from error

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]; NaN where the reward failed or no answer came. Raises RewardError, with the reason, if that is so everywhere."""
        parts, reason = [], None
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            scores, failed = self._score(images[rows], prompts[rows])
            parts.append(scores)
            reason = failed or reason
        scores = torch.cat(parts)
        if reason and scores.isnan().all():
            raise RewardError(f"reward remote={self.url}: not one score for {len(images)} images, the last: {reason}")
        return scores

    def _score(self, images: Tensor, prompts: list[Prompt]) -> tuple[Tensor, str | None]:
        """Scores, and why there are none if there are none."""
        body, reason = pack(images, prompts), None
        for attempt in range(self.num_tries):
            try:
                answer = self._ask(body)
                scores = answer["scores"]
                if len(scores) != len(images):
                    raise ValueError(f"{len(scores)} scores for {len(images)} images")
                values = torch.tensor([float("nan") if score is None else float(score) for score in scores])
                return values, answer.get("error")
            except NO_ANSWER as error:
                reason = told(error)
                if attempt + 1 < self.num_tries:
                    time.sleep(self.pause * 2**attempt)
        return torch.full((len(images),), torch.nan), reason

    def _ask(self, body: bytes | None) -> Any:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/octet-stream"})
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            return json.loads(response.read())


def remote(source: str | None, device: str) -> Remote:
    """Raises ValueError for what is no address, ConnectionError if no server answers."""
    if source is None or not source.startswith(("http://", "https://")):
        raise ValueError(f"reward remote={source or ''}: give the server's address, --reward remote=http://HOST:PORT")
    return Remote(source)
