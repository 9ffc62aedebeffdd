"""The pictures of the documentation: python docs/figures.py [before-after|curriculum|hacking RUN_DIR] (needs the dev extra)."""

import json
import random
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw, ImageFont

from vgrpo.core.images import to_pil
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.pages.frames import framed, sized
from vgrpo.pages.run_files import RunFiles
from vgrpo.prompts.sources import evaluation_prompts
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.training.record.alarm import Alarm
from vgrpo.worlds.sprites.grammar import TAGS, prompt_stream
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
    _, images = draw_images(policy, prompts, noise, Sampling())
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


def before_after(run: Path, num_prompts: int = 8) -> None:
    """Samples of a run's start and end, each with what the verifier says of it."""
    files = RunFiles(run)
    sets = files.sample_sets()
    prompts = files.text(f"{sets[0]}/prompts.txt", 10**6).splitlines()
    chosen = list(range(0, len(prompts), max(1, len(prompts) // num_prompts)))[:num_prompts]
    font, rows = ImageFont.load_default(16), []
    for index in chosen:
        pairs = ((files.strip(f"{part}/{index:02d}.png"), files.verdicts(part)[index]) for part in (sets[0], sets[-1]))
        rows.append([framed([sized(picture, 128, True) for picture in strip], row) for strip, row in pairs])
    width, height = rows[0][0].size
    space, text = 40, 26
    sheet = Image.new("RGB", (2 * width + space, text + len(rows) * (height + text + 10)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(("before", "after")):
        pen.text((column * (width + space), 2), name, "#555b70", ImageFont.load_default(18))
    for place, (index, pair) in enumerate(zip(chosen, rows, strict=True)):
        top = text + place * (height + text + 10)
        pen.text((0, top + 4), prompts[index], "black", font)
        for column, strip in enumerate(pair):
            sheet.paste(strip, (column * (width + space), top + text))
    sheet.save(DOCS / "before-after.png", optimize=True)


def curriculum(run: Path, scale: int = 2) -> None:
    """A row for each kind of prompt, a column for the base model and one for each stage, from the same noise."""
    pipeline = load_pipeline("sprites")
    policy = make_policy(pipeline, max_sequence_length=0)
    prompts = [evaluation_prompts(f"sprites:{tag}", 256)[3] for tag in TAGS]
    noise = torch.stack([named_noise(policy, "figure", index) for index in range(len(prompts))])
    stages = sorted(path for path in run.iterdir() if path.name.startswith("stage-"))
    columns = []
    for folder in (None, *stages):
        if folder is not None:
            pipeline.load_lora_weights(folder / "lora")
        columns.append(draw_images(policy, prompts, noise, Sampling())[1])
        pipeline.unload_lora_weights()
    left, top, size = 210, 20, columns[0].shape[-1] * scale + 4
    sheet = Image.new("RGB", (left + size * len(columns), top + size * len(prompts)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, name in enumerate(["base model", *(path.name.removeprefix("stage-").replace("-", " ") for path in stages)]):
        pen.text((left + index * size, 4), name, "black")
    for row, prompt in enumerate(prompts):
        pen.text((0, top + row * size + size // 2), prompt.text, "black")
        pictures = contact_sheet(torch.stack([column[row] for column in columns]), len(columns), scale)
        sheet.paste(pictures, (left, top + row * size))
    sheet.save(DOCS / "curriculum.png")


def hacking(run: Path, num_iterations: int = 100) -> None:
    """Per iteration what was trained on and what only watched; below, what the pictures came to."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][:num_iterations]
    figure = plt.figure(figsize=(9, 6), layout="constrained")
    grid = figure.add_gridspec(4, 4, height_ratios=[4, 1, 1, 1])
    axis = figure.add_subplot(grid[0, :])
    for key, label in (("reward/mean", "learned preference, trained on"), ("monitor/sprites", "verifier, watched")):
        axis.plot([line["iteration"] for line in lines], [line[key] for line in lines], label=label)
    watch = Alarm(["sprites"])
    heard = next(line["iteration"] for line in lines if watch.add(line))
    axis.axvline(heard, color="tab:red", linestyle="--", label="alarm")
    axis.set(xlabel="iteration", ylabel="mean over the rollout", ylim=0, xlim=0)
    axis.legend(loc="lower left", frameon=False)
    for row, prompt in enumerate((3, 5, 11), 1):
        for column, part in enumerate((0, 40, 60, 80)):
            folder = run / "samples" / f"{part:06d}"
            picture = figure.add_subplot(grid[row, column], xticks=[], yticks=[])
            picture.imshow(Image.open(folder / f"{prompt:02d}.png"))
            if row == 1:
                picture.set_title(f"iteration {part}", fontsize=9)
            if column == 0:
                picture.set_xlabel((folder / "prompts.txt").read_text().splitlines()[prompt], fontsize=9, loc="left")
    figure.savefig(DOCS / "hacking.png", dpi=120)


FIGURES = {"before-after": before_after, "curriculum": curriculum, "hacking": hacking}

if __name__ == "__main__":
    if len(sys.argv) == 3:
        FIGURES[sys.argv[1]](Path(sys.argv[2]))
    else:
        world()
        pretrain_loss()
        base_samples()
