"""What libraries say whenever they are imported or one of our models is loaded, and what tells a user nothing, is not printed.

Every other message of theirs comes as ever.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

CHATTER = (
    "No LoRA keys associated to",  # an adapter of the network has none for the text encoders
    "of type <class 'NoneType'> cannot be saved",  # a part that the pipeline can be without
    "Expected types for vae",  # the bundled model's autoencoder is our own
    "You have passed a non-standard module",  # a part of diffusers' own pipelines, loaded and checked here
    "requires torchvision (not installed)",  # what they fall back to does the same
    "Failed to load CPU gemm_4bit_forward",  # of weights in 4 bits, which are not used here; the optimiser is another part
    "torchao/_C_",  # kernels of one kind of GPU each, which are not used here
    "is now natively supported by torch.compile",  # torchao says so to torch
    "Unable to import `torchao` Tensor objects",  # of older versions, which diffusers looks for
)
IMPORTED = (
    "transformers.utils.import_utils",
    "bitsandbytes.backends.cpu.ops",
    "torchao",
    "torch.utils._pytree",
    "diffusers.quantizers.torchao.torchao_quantizer",
)
"""Loggers that speak while their library is imported."""


def _matters(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in CHATTER)


@contextmanager
def without_import_chatter() -> Iterator[None]:
    """While libraries may be imported. Imports none itself."""
    with _filtered([logging.getLogger(name) for name in IMPORTED]):
        yield


@contextmanager
def without_loading_chatter(*, bars: bool = True) -> Iterator[None]:
    """While a pipeline or an adapter is loaded or saved. `bars` is whether progress bars are shown."""
    with without_import_chatter():
        from diffusers.utils import logging as of_diffusers
        from transformers.utils import logging as of_transformers

        shown = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled() and not bars]
        for library in shown:
            library.disable_progress_bar()
        handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
        try:
            with _filtered(handlers), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)  # diffusers 0.37 knows no other
                yield
        finally:
            for library in shown:
                library.enable_progress_bar()


def hide_download_bars() -> None:
    """Those of the hub, for the rest of the process."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()


@contextmanager
def _filtered(places: Sequence[logging.Filterer]) -> Iterator[None]:
    added = [place for place in places if _matters not in place.filters]  # those of an outer block stay until its own end
    for place in added:
        place.addFilter(_matters)
    try:
        yield
    finally:
        for place in added:
            place.removeFilter(_matters)
