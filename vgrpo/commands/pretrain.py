"""`vgrpo pretrain`: train the sprites world's model, or its reward, from nothing."""

from vgrpo.commands.options import parse, take_name


def run(words: list[str]) -> None:
    words, name = take_name(words, "sprites")
    if name not in COMMANDS:
        raise ValueError(
            f"nothing called {name!r} to pretrain; there is sprites, the model, and preference, its learned reward"
        )
    COMMANDS[name](words)


def _model(words: list[str]) -> None:
    from vgrpo.worlds.sprites.pretrain import PretrainConfig, pretrain

    description = "Train the bundled sprites model from nothing: about half an hour on two CPU cores."
    pretrain(parse(PretrainConfig, words, prog="vgrpo pretrain sprites", description=description))


def _preference(words: list[str]) -> None:
    from vgrpo.worlds.sprites.preference import PreferenceConfig, pretrain_preference

    description = "Train the sprites world's learned preference model from nothing: about ten minutes on one CPU core."
    pretrain_preference(parse(PreferenceConfig, words, prog="vgrpo pretrain preference", description=description))


COMMANDS = {"sprites": _model, "preference": _preference}
