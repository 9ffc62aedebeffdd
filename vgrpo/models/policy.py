"""What the adapters of all architectures share: text encoded once, guidance, and the shape an adapter has.

A new architecture is one file: a subclass that says how its pipeline encodes text, calls its network, and decodes latents,
in this library's convention (`vgrpo.core.flow`): x_t = (1 - t) x_0 + t eps, v = eps - x_0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vgrpo.core.types import Cond, Prompt
from vgrpo.models.attention import suitable_attention
from vgrpo.models.encoders import in_turn
from vgrpo.models.latents import to_images, unscaled
from vgrpo.models.resolution import Resolution, sides_of
from vgrpo.models.sharding import Spread
from vgrpo.models.text_store import TextStore, text_encoders
from vgrpo.models.unloading import Unloaded, load_encoders, unload_encoders

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CACHE_BYTES = 2**30  # of encoded texts, on the network's device: those of many thousand prompts would fill a GPU
AT_ONCE = 32  # texts, so that off-loaded encoders come to the GPU rarely and their activations stay small
JOINT_ATTENTION = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")  # image and text in one


@dataclass(kw_only=True)
class Policy(ABC):
    """A diffusers pipeline seen as the trainer sees it: text to conditions, noisy latents to velocities, latents to images."""

    pipeline: Any
    max_sequence_length: int = 256  # tokens of the longest text encoder, where it can be chosen
    resolution: Resolution | None = None  # pixels per side, or WIDTHxHEIGHT; None is the pipeline's own
    num_frames: int | None = None  # of a video; None is the architecture's own
    all_frames: bool = False  # of a video; else the final one
    autocast: torch.dtype | None = None
    offload_encoders: bool = False  # keep the text encoders on the CPU between calls
    offload_copies: bool = False  # keep averages and copies of what is trained there, too
    store: TextStore | None = None
    spread: Spread | None = None  # the network's weights over several processes
    _cache: dict[str, Cond] = field(default_factory=dict, repr=False)
    _unloaded: list[Unloaded] = field(default_factory=list, repr=False)

    network: ClassVar[str] = "transformer"
    """The pipeline's part that is trained."""
    lora_targets: ClassVar[tuple[str, ...]] = ATTENTION
    """Endings of the names of the linear layers that get an adapter by default."""
    takes_image: ClassVar[bool] = False
    """Whether every prompt needs a source image."""
    guidance_name: ClassVar[str] = "guidance_scale"
    """How the pipeline's call names its guidance."""
    guidance_offset: ClassVar[float] = 0.0
    """What is added to it to have it as it is counted here, where 1 is none."""
    takes_guidance: ClassVar[bool] = False
    """Whether the network was distilled with guidance as an input, which then costs one forward and not two."""

    @classmethod
    def check_index(cls, index: dict[str, Any]) -> None:
        """Raise ValueError for what cannot be trained by its model_index.json, before any weights are there."""
        return

    @property
    def module(self) -> nn.Module:
        module: nn.Module = getattr(self.pipeline, self.network)
        return module

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device  # diffusers' own `device` walks the whole module tree

    @property
    def copies_device(self) -> torch.device:
        """Where averages and copies of what is trained are kept."""
        return torch.device("cpu") if self.offload_copies else self.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's frozen weights, and of the texts for it; of quantised layers the type that they compute in."""
        network: Any = self.module
        return getattr(network.config, "_pre_quantization_dtype", None) or network.dtype

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        """Tokens of the longest text encoder that the pipeline itself would take."""
        return 256

    def sides(self, default: int) -> tuple[int, int]:
        """Height and width in pixels; `default` is the side of the pipeline's own."""
        return sides_of(default if self.resolution is None else self.resolution)

    @property
    def pixel_step(self) -> int:
        """A side is a multiple of so many pixels: those of a token of 2 x 2 latents."""
        return 2 * int(self.pipeline.vae_scale_factor)

    @property
    def frame_step(self) -> int | None:
        """A video has a multiple of so many frames, and one more; None where images are drawn."""
        return None

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """D"""

    @cached_property
    def num_tokens(self) -> int:
        """Of an image and its text, as attention sees them, where the resolution is highest."""
        return self.num_image_tokens + self.num_text_tokens

    @property
    def num_image_tokens(self) -> int:
        network: Any = self.module
        patch = getattr(network.config, "patch_size", None) or 1
        area = math.prod(patch) if isinstance(patch, Sequence) else patch**2
        return math.prod(self.latent_shape[1:]) // area

    @property
    def distilled_steps(self) -> int | None:
        """Of a model that was distilled to draw in so many, without guidance; None for all others."""
        return None

    @property
    def num_text_tokens(self) -> int:
        """Tokens of one text as the network gets it, padding included."""
        return self.max_sequence_length

    @abstractmethod
    def blank_text(self, rows: int) -> Cond:
        """Meaningless text of the shapes and types that `encode` returns for `rows` texts, without an encoder."""

    def blank(self, *shape: int) -> Tensor:
        """Uninitialised numbers of the network's type, for `blank_text`."""
        return torch.empty(shape, device=self.device, dtype=self.dtype)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Cond:
        """Encode texts, each distinct one once, while there is room in the cache or once for all in a store. The result has the
        network's type, which is not the encoders' where they are frozen in bf16 and all of the network is trained."""
        distinct, dtype = list(dict.fromkeys(texts)), self.dtype
        new = [text for text in distinct if text not in self._cache]
        if self.store is not None:
            stored = {text: self.store.read(text, self.device) for text in new}
            self._cache |= {text: cond.to(dtype) for text, cond in stored.items() if cond is not None}
            new = [text for text in new if text not in self._cache]
        if new:
            self.load_encoders()
            with self.encoders_at_hand():
                # Alone, as the last bits depend on what else is in the batch, and that on which process it is. Off-loaded
                # encoders would come to the device for every text.
                size = AT_ONCE if self.offload_encoders else 1
                parts = [new[start : start + size] for start in range(0, len(new), size)]
                encoded = Cond.cat([self.encode_texts(part).to(self.device) for part in parts])
            rows = {text: encoded[torch.tensor([index])] for index, text in enumerate(new)}  # a copy, for a view keeps all
            self._cache |= {text: row.to(dtype) for text, row in rows.items()}
            if self.store is not None:
                for text, row in rows.items():
                    self.store.write(text, row)
        index = {text: row for row, text in enumerate(distinct)}
        cond = Cond.cat([self._cache[text] for text in distinct])
        self._forget(distinct)
        return replace(cond, index=torch.tensor([index[text] for text in texts], device=self.device))

    def encode_prompts(self, prompts: list[Prompt]) -> Cond:
        """What the network is told of prompts: here their texts alone."""
        return self.encode([prompt.text for prompt in prompts])

    def unload_encoders(self) -> None:
        """Free their memory, of a pipeline that came from a folder, until a text is asked for that is encoded nowhere."""
        self._unloaded += unload_encoders(self.pipeline)

    def load_encoders(self) -> None:
        """Those that were unloaded."""
        if self._unloaded:
            load_encoders(self.pipeline, self._unloaded)
            self._unloaded.clear()

    def encoders_at_hand(self) -> AbstractContextManager[None]:
        """The text encoders work on the network's device; off-loaded ones come there one at a time."""
        return in_turn(text_encoders(self.pipeline) if self.offload_encoders else [], self.device)

    def _forget(self, used: list[str]) -> None:
        """Leave out of the cache what was not used for longest, until it holds at most CACHE_BYTES."""
        for text in used:
            self._cache[text] = self._cache.pop(text)  # to the end, as the newest
        size = sum(cond.nbytes for cond in self._cache.values())
        for text in list(self._cache):
            if size <= CACHE_BYTES:
                return
            size -= self._cache.pop(text).nbytes

    def attention(self) -> AbstractContextManager[None]:
        """The attention that suits the network here. A backward that computes the forward again needs it, too."""
        return suitable_attention(self.device, self.autocast, self.num_tokens)

    def num_branches(self, guidance: float) -> int:
        """Evaluations of the network that one guided velocity costs."""
        return 1 if self.takes_guidance or guidance == 1.0 else 2

    def velocity(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float = 1.0) -> Tensor:
        """v at [M, *D] and t [M]. Guidance above 1 evaluates the empty text too; both branches carry gradient."""
        text = replace(cond, empty=None)
        if self.num_branches(guidance) == 1:
            return self._predict(x_t, t, text, guidance)
        own = cond.empty
        empty = self._empty_texts(len(x_t)) if own is None else replace(own, index=cond.index, image=cond.image)
        both = Cond.cat([empty, text])
        v_empty, v_text = self._predict(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return self.guided(v_empty, v_text, guidance)

    def _empty_texts(self, rows: int) -> Cond:
        """The empty text for so many rows, without a copy from the host at every guided forward."""
        found = self._cache.pop("", None) or self.encode([""]).dense()
        self._cache[""] = found  # as the newest
        return replace(found, index=torch.zeros(rows, dtype=torch.long, device=self.device))

    def guided(self, v_empty: Tensor, v_text: Tensor, guidance: float) -> Tensor:
        """Classifier-free guidance (arXiv:2207.12598) from the two branches, each [M, *D]."""
        return v_empty + guidance * (v_text - v_empty)

    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float = 1.0) -> Tensor:
        low = self.autocast is not None
        if self.spread is not None:
            self.spread.announce()
        # Its cache would keep a copy of every weight to the forward's end, and a spread network is there to keep few.
        autocast = torch.autocast(self.device.type, dtype=self.autocast, enabled=low, cache_enabled=self.spread is None)
        with autocast, self.attention():
            return self.predict(x_t, t, cond.dense(), guidance)

    @abstractmethod
    def encode_texts(self, texts: list[str]) -> Cond:
        """Run the text encoders, on the network's device: a pipeline that is told it need not look through all its modules."""

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        """v from one call of the network; `guidance` is for networks that take it as an input."""

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """[B, *D] to [B, 3, H, W] in [0, 1], fp32."""
        vae = self.pipeline.vae
        return to_images(vae.decode(unscaled(vae, x_0), return_dict=False)[0])
