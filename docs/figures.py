"""The pictures of the documentation: python docs/figures.py RUN_DIR (needs matplotlib, in the dev extra)."""

import json
import random
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw

from vgrpo.images import to_pil
from vgrpo.models import load_pipeline, make_policy
from vgrpo.prompts import evaluation_prompts
from vgrpo.rollout import draw_images, named_noise
from vgrpo.worlds.sprites.grammar import prompt_stream
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene

DOCS = Path(__file__).parent


def contact_sheet(images: torch.Tensor, columns: int, scale: int = 2) -> Image.Image:
    """[B, 3, H, W] in rows of `columns`, enlarged without smoothing."""
    size = images.shape[-1] * scale
    sheet = Image.new("RGB", (columns * (size + 4) - 4, -(-len(images) // columns) * (size + 4) - 4), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(to_pil(image).resize((size, size), Image.Resampling.NEAREST), (column * (size + 4), row * (size + 4)))
    return sheet


def world() -> None:
    rng = random.Random(3)
    stream = prompt_stream(rng)
    boards = render([sample_scene(next(stream), rng) for _ in range(14)], torch.Generator().manual_seed(3))
    contact_sheet(boards, 7).save(DOCS / "sprites-world.png")


def base_samples() -> None:
    policy = make_policy(load_pipeline("sprites"), max_sequence_length=0)
    prompts = evaluation_prompts("sprites", 256)[::8][:28]
    noise = torch.stack([named_noise(policy, "figure", index) for index in range(len(prompts))])
    _, images = draw_images(policy, prompts, noise, solver="dpm_solver_2m", num_steps=16, guidance=1.0)
    contact_sheet(images, 7).save(DOCS / "base-samples.png")


def pretrain_loss() -> None:
    lines = [json.loads(line) for line in (DOCS / "pretrain.jsonl").read_text().splitlines()]
    loss = [(line["step"], line["loss"]) for line in lines if line["stage"] == "base"]
    scores = [line for line in lines if line["stage"] == "held-out"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    left.plot(*zip(*loss, strict=True))
    left.set(xlabel="step", ylabel="velocity loss", yscale="log")
    for name in ("strict", "reward"):
        right.plot([line["step"] for line in scores], [line[name] for line in scores], marker="o", label=name)
    right.set(xlabel="step", ylabel="held-out score, no guidance", ylim=0)
    right.legend()
    figure.savefig(DOCS / "pretrain-loss.png", dpi=120)


def before_after(run: Path, num_prompts: int = 8, scale: int = 2) -> None:
    sets = sorted(path for path in (run / "samples").iterdir() if path.is_dir())
    prompts = (sets[0] / "prompts.txt").read_text().splitlines()
    chosen = list(range(0, len(prompts), max(1, len(prompts) // num_prompts)))[:num_prompts]
    width, height, text = 256 * scale, 64 * scale, 18
    sheet = Image.new("RGB", (2 * width + 16, text + len(chosen) * (height + text + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((0, 2), "before", "black")
    pen.text((width + 16, 2), "after", "black")
    for row, index in enumerate(chosen):
        top = text + row * (height + text + 4)
        pen.text((0, top + 3), prompts[index], "black")
        for column, part in enumerate((sets[0], sets[-1])):
            strip = Image.open(part / f"{index:02d}.png").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(strip, (column * (width + 16), top + text))
    sheet.save(DOCS / "before-after.png")


if __name__ == "__main__":
    world()
    pretrain_loss()
    base_samples()
    if len(sys.argv) > 1:
        before_after(Path(sys.argv[1]))
