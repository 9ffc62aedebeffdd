"""Recipes: complete settings for one experiment each, to start from by name."""

from vgrpo.config import Config
from vgrpo.recipes.flux1 import FLUX1
from vgrpo.recipes.sd3 import SD3
from vgrpo.recipes.sprites import SPRITES
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST

RECIPES: dict[str, Config] = {"sprites": SPRITES, "vgrpo-fast": VGRPO_FAST, "sd3": SD3, "flux1": FLUX1}
