"""The word that a service asks for where other machines can reach it."""

import os

TOKEN = "VGRPO_TOKEN"
"""The environment variable that holds it."""


def token() -> str:
    """Empty if there is none. Raises ValueError for one that no header can hold."""
    value = os.environ.get(TOKEN, "").strip()
    if not (value.isascii() and all(letter.isprintable() and letter != " " for letter in value)):
        raise ValueError(f"{TOKEN} must be of letters and digits, without blanks")
    return value


def authorization() -> dict[str, str]:
    """The header that shows the token, if there is one."""
    word = token()
    return {"Authorization": f"Bearer {word}"} if word else {}
