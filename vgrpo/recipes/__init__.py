"""Recipes: complete settings for one experiment each, to start from by name."""

from vgrpo.recipes.flux1 import FLUX1
from vgrpo.recipes.flux1_preference import FLUX1_PREFERENCE
from vgrpo.recipes.sd3 import SD3
from vgrpo.recipes.sd15_pickscore import SD15_PICKSCORE
from vgrpo.recipes.sd35m_evening import SD35M_EVENING
from vgrpo.recipes.sd35m_geneval import SD35M_GENEVAL
from vgrpo.recipes.sd35m_multi import SD35M_MULTI
from vgrpo.recipes.sd35m_ocr import SD35M_OCR
from vgrpo.recipes.sd35m_preference import SD35M_SINGLE
from vgrpo.recipes.sdxl_pickscore import SDXL_PICKSCORE
from vgrpo.recipes.sprites import SPRITES
from vgrpo.recipes.sprites_curriculum import SPRITES_CURRICULUM
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum

RECIPES: dict[str, Config | Curriculum] = {
    "sprites": SPRITES,
    "vgrpo-fast": VGRPO_FAST,
    "sprites-curriculum": SPRITES_CURRICULUM,
    "sd15-pickscore": SD15_PICKSCORE,
    "sdxl-pickscore": SDXL_PICKSCORE,
    "sd3": SD3,
    **SD35M_SINGLE,
    "sd35m-evening": SD35M_EVENING,
    "sd35m-geneval": SD35M_GENEVAL,
    "sd35m-ocr": SD35M_OCR,
    "sd35m-multi": SD35M_MULTI,
    "flux1": FLUX1,
    "flux1-preference": FLUX1_PREFERENCE,
}
