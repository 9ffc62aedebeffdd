"""Writes docs/recipe-costs.md: what each recipe takes, by the code of `vgrpo plan`: python docs/recipe_costs.py.

A few minutes on a CPU. Run it again where recipes or the plan have changed; a test holds the list of recipes.
"""

from pathlib import Path

from vgrpo.analysis.plan.advice import advise
from vgrpo.analysis.plan.cards import card_of
from vgrpo.analysis.plan.job import GB, Job, measure_job
from vgrpo.models.bundled import bundled_models
from vgrpo.recipes import RECIPES
from vgrpo.training.settings.stages import Curriculum

PAGE = Path(__file__).parent / "recipe-costs.md"
CARDS = ("4090", "H100")
HEAD = """# What each recipe takes

By `vgrpo plan`, before any download; written by `docs/recipe_costs.py`. The recipes of the bundled model are left out: they
take minutes on two CPU cores. None of those below was run here at full size.

- **Memory** is what the recipe takes on one GPU as it stands, reward models included.
- **For 24 GB** is what it takes with the options that the plan advises for such a card, and these options. Where the number is
  above 24 the recipe does not fit, and the number is the smallest GPU for it.
- **Hours** are for the whole recipe on one GPU without reward models,
  [reckoned](models.md#how-long) from arithmetic and memory traffic.
  A card with less memory than the recipe takes needs the options, whose time is not counted.

A curriculum has the memory of its largest stage and the hours of all. How the plan reckons:
[what a job takes](models.md#what-a-job-takes).

| recipe | iterations | images in each | evaluations in each | memory | for 24 GB | {cards} |
|---|---|---|---|---|---|{rules}|
"""


def hours(job: Job, card: str) -> float:
    known = card_of(card)
    assert known is not None
    return job.total_work().seconds(known, compiled=job.config.compile) / 3600


def row(name: str, jobs: list[Job]) -> str:
    """The line of a recipe; a curriculum takes the memory of its largest stage and the time of all."""
    largest = max(jobs, key=lambda job: sum(job.memory(job.config).values()))
    advice = advise(largest, 24 * GB)
    options, total = advice.options, advice.total
    cells = [
        f"`{name}`",
        " + ".join(str(job.config.num_iterations) for job in jobs),
        f"{largest.num_images:,}",
        f"{sum(largest.evaluations().values()):,.0f}",
        f"{sum(largest.memory(largest.config).values()) / GB:.1f} GB",
        f"{total / GB:.1f} GB: " + " ".join(f"`{option}`" for option in options) if options else f"{total / GB:.1f} GB",
        *(f"{sum(hours(job, card) for job in jobs):,.1f}" for card in CARDS),
    ]
    return "| " + " | ".join(cells) + " |"


def rows() -> list[str]:
    lines = []
    for name, recipe in RECIPES.items():
        configs = [stage.config for stage in recipe.stages] if isinstance(recipe, Curriculum) else [recipe]
        if configs[0].model not in bundled_models():
            lines.append(row(name, [measure_job(config, 1) for config in configs]))
            print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    head = HEAD.format(cards=" | ".join(f"hours, {card}" for card in CARDS), rules="|".join(["---"] * len(CARDS)))
    PAGE.write_text(head + "\n".join(rows()) + "\n")
