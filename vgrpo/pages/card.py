"""README.md beside exported weights, as the hub shows it: what was trained on what, with which scores, and pictures."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgrpo.pages.frames import framed, sized
from vgrpo.pages.held_out import point_of
from vgrpo.pages.run_files import RunFiles, draws_hard_pixels, number, table
from vgrpo.rewards.registry import PUBLISHED_SCALES
from vgrpo.support.files import whole, write_whole
from vgrpo.support.version import VERSION

MOST_ROWS, MOST_TEXT = 4, 300
SIDE = 512  # pixels of a picture
METRICS = ("strict", "reward")


def write_card(run: Path, target: Path, usage: str, iteration: int | None = None, *, best: bool = False) -> Path:
    """Write the card of a run's weights into the folder they are in; pictures are copied beside it. `usage` is how the weights
    are loaded, `iteration` the checkpoint that they are of, None for the run's end or the `best` of its evaluations."""
    files = RunFiles(run)
    _, settings = files.settings()
    evaluation = files.evaluation()
    of = "" if iteration is None else "an earlier checkpoint of the run"
    sample_scores = None if iteration is None else _scores_of(files, iteration)
    if best:
        evaluation["tuned"] = table(evaluation.get("best"))
        iteration, of = int(number(evaluation["tuned"].get("iteration")) or 0), "the best of the run's held-out evaluations"
    lines = [
        *_front_matter(settings),
        f"# {_plain(files.root.name)}",
        "",
        f"Trained with online reinforcement learning by vgrpo {VERSION}; `config.yaml` repeats the run.",
        "",
        *_facts(settings, f"{iteration}, {of}" if of else settings.get("num_iterations")),
        *(sample_scores or _scores(evaluation, _published_scale(settings), best=best)),
        *_pictures(files, target, draws_hard_pixels(settings), iteration),
        "## Use",
        "",
        usage,
    ]
    with whole(target / "config.yaml") as draft:  # in the place of a link that somebody left there, and not through it
        draft.write_bytes(files.read("config.yaml", 10**6) or b"")
    write_whole(target / "README.md", "\n".join(lines) + "\n")
    return target / "README.md"


def _front_matter(settings: dict[str, Any]) -> list[str]:
    """What the hub reads of a card. JSON is YAML, whatever a name holds."""
    values = {
        "base_model": str(settings.get("model")),
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["vgrpo", "reinforcement-learning", *(["lora"] if settings.get("finetune") != "full" else [])],
    }
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in values.items()), "---", ""]


def _facts(settings: dict[str, Any], iterations: object) -> list[str]:
    rollout, update, lora = (table(settings.get(name)) for name in ("rollout", "update", "lora"))
    guidance = rollout.get("guidance")
    facts = {
        "base model": settings.get("model"),
        "training prompts": settings.get("prompts"),
        "held-out prompts": settings.get("eval_prompts") or "those that come with the training prompts",
        "rewards": _listed(settings.get("reward")),
        "weights of the rewards": _listed(settings.get("reward_weights")),
        "watched, not trained on": _listed(settings.get("monitor")),
        "algorithm": table(settings.get("objective")).get("name"),
        "iterations": iterations,
        "images per iteration": f"{rollout.get('num_prompts')} prompts x {rollout.get('group_size')} images",
        "sampling": f"{rollout.get('num_steps')} steps, guidance {guidance}, shift {rollout.get('shift')}",
        "learning rate": update.get("lr") or "the default for what is trained",
        "trained": "all weights" if settings.get("finetune") == "full" else f"a LoRA of rank {lora.get('rank')}",
        "seed": settings.get("seed"),
    }
    rows = [f"| {name} | {_plain(value)} |" for name, value in facts.items() if value not in (None, "")]
    return ["| | |", "|---|---|", *rows, ""]


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""


def _published_scale(settings: dict[str, Any]) -> float | None:
    """What papers multiply the run's reward with, where it is one whose scores they give so."""
    rewards = settings.get("reward")
    only = str(rewards[0]) if isinstance(rewards, list) and len(rewards) == 1 else ""
    return PUBLISHED_SCALES.get(only.partition("=")[0])


def _scores(evaluation: dict[str, Any], scale: float | None, *, best: bool) -> list[str]:
    """Held-out scores before and after, with 95% intervals where the evaluation has them; the reward at the `scale` of papers,
    too."""
    base, tuned = table(evaluation.get("base")), table(evaluation.get("tuned"))
    if not tuned:
        return ["## Scores", "", "None: the run was not evaluated on held-out prompts.", ""]
    lines = [
        "## Scores",
        "",
        f"{_plain(evaluation.get('num_images'))} images of {_plain(evaluation.get('num_prompts'))} held-out ",
    ]
    lines[-1] += "prompts, from the same noise before and after; in brackets the 95% interval over prompts."
    if best:
        lines[-1] += " The weights were chosen by this reward, so it is a little too good."
    lines += ["", "| | before | after |", "|---|---|---|"]
    for metric in METRICS:
        if metric in base:
            lines.append(f"| {metric} | {_spelled(base, metric)} | {_spelled(tuned, metric)} |")
    if scale is not None and "reward" in base:
        before, after = (_spelled(part, "reward", scale) for part in (base, tuned))
        lines.append(f"| reward x {scale:g}, as published | {before} | {after} |")
    first, last = table(base.get("by_category")), table(tuned.get("by_category"))
    metric = next((name for name in METRICS if name in base), "reward")
    for tag in first if len(first) > 1 else ():
        old, new = (number(table(part.get(tag)).get(metric)) for part in (first, last))
        lines.append(f"| {_plain(tag)}, {metric} | {_score(old)} | {_score(new)} |")
    return [*lines, ""]


def _scores_of(files: RunFiles, iteration: int) -> list[str]:
    """A checkpoint on the way is not evaluated; its sample pictures have scores."""
    first, here = (point_of(files, f"{number:06d}") for number in (0, iteration))
    if here is None:
        return ["## Scores", "", "None: this checkpoint was not evaluated, and no pictures were drawn from it.", ""]
    lines = [f"Of {here.num_images} sample pictures of {here.num_prompts} prompts, from the same noise before and after.", ""]
    lines += ["| | before | after |", "|---|---|---|"]
    before = {} if first is None else first.means
    lines += [f"| {_plain(name)} | {_score(before.get(name))} | {_score(value)} |" for name, value in here.means.items()]
    return ["## Scores", "", *lines, ""]


def _spelled(part: dict[str, Any], metric: str, scale: float = 1.0) -> str:
    interval = table(table(part.get("interval")).get(metric))
    values = (number(part.get(metric)), *(number(interval.get(end)) for end in ("low", "high")))
    mean, low, high = (None if value is None else value * scale for value in values)
    ends = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return _score(mean) + ends


def _score(value: float | None) -> str:
    return "failed" if value is None else f"{value:.3f}"


def _pictures(files: RunFiles, target: Path, hard_pixels: bool, iteration: int | None) -> Iterator[str]:
    """The first and the last sample pictures, or those of the iteration, of a few prompts, copied in frames."""
    sets = [each for each in files.sample_sets() if iteration is None or each in ("samples/000000", f"samples/{iteration:06d}")]
    if len(sets) < 2:
        return
    prompts = files.text(f"{sets[0]}/prompts.txt", 256 * 1000).split("\n")
    yield from ("## Pictures", "", "Above before, below after training, from the same noise.", "")
    verdicts = {part: files.verdicts(part) for part in (sets[0], sets[-1])}
    folder = target / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for index in files.samples(sets[0])[:MOST_ROWS]:
        yield from (_plain(prompts[index] if index < len(prompts) else ""), "")
        for part, name in ((sets[0], "before"), (sets[-1], "after")):
            pictures = files.strip(f"{part}/{index:02d}.png")
            if pictures:
                row = dict(enumerate(verdicts[part])).get(index, [])
                framed([sized(picture, SIDE, hard_pixels) for picture in pictures], row).save(
                    folder / f"{name}-{index:02d}.png"
                )
                yield from (f"![{name}](pictures/{name}-{index:02d}.png)", "")


def _plain(value: object) -> str:
    """A text in which nothing is markup, for one cell of a table."""
    text = " ".join(str(value).split())[:MOST_TEXT]
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#|!" else letter for letter in text)
