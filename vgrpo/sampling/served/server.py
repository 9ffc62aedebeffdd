"""A rollout worker: `vgrpo serve-rollout MODEL`, for training runs that ask by `--rollout-workers http://HOST:PORT`.

GET says what it draws with. POST /weights takes the weights of a run's adapter, POST /draw an order for images of such weights.
An order for weights that the worker has not got is refused with status 409: it never draws with others.
"""

from threading import Lock
from typing import Any

import torch
from torch import Tensor

from vgrpo.models.loading import load_policy
from vgrpo.models.lora import add_lora, freeze
from vgrpo.models.policy import Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.sampling.draw import all_noise, draw_images, member_name
from vgrpo.sampling.served.settings import ServeRolloutConfig
from vgrpo.sampling.served.wire import (
    KIND,
    UNKNOWN_WEIGHTS,
    Order,
    likeness,
    name_of_weights,
    order_from_json,
    pack_images,
    prompts_of,
    unpack_weights,
)
from vgrpo.support.http.server import Answer, Refused, Service

MOST_VERSIONS = 8
"""Of the weights: several runs may ask, and processes of one run for the last and for the one before."""


class RolloutServer(Service):
    """Loads a model and draws with it, one order at a time. A pipeline in memory takes the place of the model that is named.

    Raises what `load_policy` and `Service` raise.
    """

    def __init__(self, config: ServeRolloutConfig, pipeline: Any = None) -> None:
        super().__init__(config)
        self.drawing = Lock()
        self.lora: LoraConfig | None = None
        self.versions: dict[str, dict[str, Tensor]] = {}
        self.loaded: str | None = None
        with self.opened():
            self.policy: Policy = load_policy(config, pipeline)
            freeze(self.policy)
            self.likeness = likeness(self.policy)

    def greeting(self) -> dict[str, Any]:
        return {"kind": KIND} | self.likeness

    def answer(self, path: str, body: bytearray) -> Answer:
        if path == "/weights":
            return Answer.json({"weights": self.take(body)})
        if path == "/draw":
            return Answer(self.draw(order_from_json(body, self.config.max_images)))
        raise Refused(404, "/weights and /draw are all there is")

    def take(self, body: bytearray) -> str:
        """Weights for orders to come; returns how they are called. Raises ValueError for those of another model."""
        values, lora = unpack_weights(body)
        name = name_of_weights(body)
        with self.drawing:
            if lora != self.lora:
                self._form(lora)
            own = trainable(self.policy.module)
            other = list(own.keys() ^ values.keys())
            other += [key for key in own.keys() & values.keys() if own[key].shape != values[key].shape]
            if other:
                raise ValueError(f"weights of another model: {sorted(other)[0]} and {len(other) - 1} more do not fit")
            self.versions.pop(name, None)
            self.versions[name] = values
            while len(self.versions) > MOST_VERSIONS:
                self.versions.pop(next(iter(self.versions)))
        return name

    def _form(self, lora: LoraConfig) -> None:
        """Another adapter takes the place of the one that is there, if any."""
        network: Any = self.policy.module
        self.versions.clear()
        self.lora = self.loaded = None
        if getattr(network, "peft_config", None):
            network.unload_lora()
        add_lora(self.policy, lora, seed=0)
        self.lora = lora

    def draw(self, order: Order) -> bytes:
        """The answer to an order. Raises Refused if its weights are not here."""
        with self.drawing:
            if order.weights not in self.versions:
                raise Refused(UNKNOWN_WEIGHTS, f"the weights {order.weights[:40]} are not here; send them first")
            if self.loaded != order.weights:
                self._load(order.weights)
            noise = all_noise(self.policy, [member_name(order.seed, group, index) for _, group, index in order.images])
            latents, images = draw_images(self.policy, prompts_of(order), noise, order.sampling)
        return pack_images(order.weights, latents, images)

    @torch.no_grad()
    def _load(self, name: str) -> None:
        self.loaded = None
        for key, parameter in trainable(self.policy.module).items():
            parameter.copy_(self.versions[name][key])
        self.loaded = name
