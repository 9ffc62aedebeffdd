"""What diffusers and transformers say whenever one of our models is loaded, and what is no news, is not printed."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NO_NEWS = (
    "No LoRA keys associated to",  # an adapter of the network has none for the text encoders
    "Expected types for vae",  # the bundled model's autoencoder is our own
    "requires torchvision (not installed)",  # what they fall back to does the same
)


def _is_news(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in NO_NEWS)


@contextmanager
def without_no_news(*, bars: bool = True) -> Iterator[None]:
    """While a pipeline or an adapter is loaded; all other messages come as ever. `bars` is whether progress bars do."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
    shown = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled() and not bars]
    for handler in handlers:
        handler.addFilter(_is_news)
    for library in shown:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)  # diffusers 0.37 knows no other
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_news)
        for library in shown:
            library.enable_progress_bar()
