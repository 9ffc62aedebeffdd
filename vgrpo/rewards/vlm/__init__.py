"""Vision-language models that judge in this process."""
