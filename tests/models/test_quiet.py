"""A start prints what a user should read, and no more."""

import io
import logging
import subprocess
import sys

import pytest

from vgrpo.models.quiet import CHATTER, IMPORTED, without_import_chatter, without_loading_chatter


@pytest.fixture
def said():
    """What the libraries' handlers write."""
    stream, logger = io.StringIO(), logging.getLogger("diffusers")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_only_chatter_is_kept_back_and_only_for_a_while(said):
    logger = logging.getLogger("diffusers.loaders")
    with without_loading_chatter():
        for part in CHATTER:
            logger.warning("%s and so on", part)
        logger.warning("weights are missing")
    assert said.getvalue() == "weights are missing\n"
    logger.warning(CHATTER[0])
    assert CHATTER[0] in said.getvalue()


@pytest.mark.parametrize("name", IMPORTED)
def test_real_messages_of_an_import_come_through(name, caplog):
    logger = logging.getLogger(name)
    with without_import_chatter(), without_import_chatter():
        for part in CHATTER:
            logger.warning("`CLIPImageProcessor` %s and so on", part)
        logger.warning("no GPU was found")
    assert caplog.messages == ["no GPU was found"]
    logger.warning(CHATTER[-1])
    assert caplog.messages[-1] == CHATTER[-1]


def test_a_picture_is_drawn_without_a_word_of_the_libraries(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red heart\n")
    line = "sample --prompts prompts.txt --num-images 1 --num-steps 1 --output-dir out"
    run = subprocess.run(
        [sys.executable, "-m", "vgrpo", *line.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert run.stdout == "1 images in out\n"
