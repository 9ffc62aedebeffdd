"""Diffusers pipelines as the trainer sees them: loading, precision, weight sets, LoRA; a file per architecture in adapters/."""
