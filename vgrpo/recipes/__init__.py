"""Recipes: complete settings for one experiment each, to start from by name."""

from vgrpo.config import Config
from vgrpo.recipes.flux1 import FLUX1
from vgrpo.recipes.sd3 import SD3
from vgrpo.recipes.sprites import SPRITES

RECIPES: dict[str, Config] = {"sprites": SPRITES, "sd3": SD3, "flux1": FLUX1}
