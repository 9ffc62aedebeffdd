"""What was measured of published models on the meta device, half a minute each: `python -m helpers.figures` in tests/ writes it
anew after a change of an adapter or of what the plan counts."""

import json
from dataclasses import asdict
from pathlib import Path

from vgrpo.analysis.plan.figures import measure_model
from vgrpo.analysis.plan.measure import Cost, Decoding
from vgrpo.models.defaults import Defaults
from vgrpo.models.published import HUB_IDS
from vgrpo.recipes import RECIPES

PATH = Path(__file__).with_name("figures.json")
NAMED = ("sd15-pickscore", "sdxl-pickscore", "sd35m-pickscore", "flux1-preference")
"""Recipes, one for each model and size of picture."""


def known(config):
    """In the place of `measure_model`: the figures of a recipe's model."""
    values = json.loads(PATH.read_text())[f"{HUB_IDS[config.model]} {config.resolution}"]
    *decoding, image = values["decoding"]
    made = {"decoding": Decoding(*decoding, tuple(image)), "encoders": tuple(values["encoders"])}
    return values | made | {"plain": Cost(**values["plain"]), "own": Defaults(*values["own"])}


def known_or_measured(config):
    """For models that are no recipe's, too."""
    return known(config) if config.model in HUB_IDS else measure_model(config)


def measured():
    figures = {}
    for name in NAMED:
        config = RECIPES[name]
        values = measure_model(config)
        figures[f"{HUB_IDS[config.model]} {config.resolution}"] = values | {"plain": asdict(values["plain"])}
    return figures


if __name__ == "__main__":
    PATH.write_text(json.dumps(measured(), indent=1) + "\n")
