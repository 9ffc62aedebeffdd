"""Secrets are hidden, and nothing else."""

from pathlib import Path

import pytest

from vgrpo.models.settings import LoraConfig
from vgrpo.support.secrets import redact, require_no_secret
from vgrpo.training.settings.config import Config


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host:8100/v1", "http://***@host:8100/v1"),
        ("https://pw@host", "https://***@host"),
        ("http://me:p@w@host", "http://***@host"),
        ("http://host/?token=abc&x=1", "http://host/?token=***&x=1"),
        ("http://host/?x=1&api_key=abc", "http://host/?x=1&api_key=***"),
        ("http://host/?access-token=abc#d", "http://host/?access-token=***#d"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("the key sk-abcdefgh1234 is wrong", "the key *** is wrong"),
        ("the token hf_abcdefgh1234 is wrong", "the token *** is wrong"),
        ("a http://one:a@h and http://two:b@h", "a http://***@h and http://***@h"),
    ],
)
def test_a_secret_is_hidden(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text", ["http://host:8100/v1", "me@example.com", "a@b", "?tokens", "a bearer of news", "task-abcdefgh1234", "x=1&y=2", ""]
)
def test_other_text_stays(text):
    assert redact(text) == text


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "VGRPO_TOKEN"])
def test_what_the_environment_holds_is_hidden(monkeypatch, name):
    monkeypatch.setenv(name, " my secret word\n")
    assert redact("they sent 'my secret word'.") == "they sent '***'."
    monkeypatch.setenv(name, "a")
    assert redact("a banana") == "a banana"


TOKEN = "hf_" + "aB3dEfGh" * 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "https://me:pw@host/model"),
        ("prompts", "https://host/prompts.txt?token=abc"),
        ("eval_prompts", f"{TOKEN}/prompts.txt"),
        ("output_dir", Path(f"runs/{TOKEN}")),
        ("reward", ("sprites", "remote=http://me:pw@host")),
        ("monitor", (f"judge={TOKEN}",)),
        ("prompt_shares", ("Bearer abc=1",)),
    ],
)
def test_a_setting_with_a_secret_is_refused_and_not_repeated(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*holds a password, key or token") as caught:
        Config(**{name: value})
    assert TOKEN not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_setting_with_a_word_of_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("VGRPO_TOKEN", "swordfish")
    with pytest.raises(ValueError, match=r"model=a \*\*\* b"):
        Config(model="a swordfish b")
    with pytest.raises(ValueError, match=r"lora\.init="):
        require_no_secret(LoraConfig(init=Path("swordfish")), "lora.")


@pytest.mark.parametrize("name", ["hf_models_cache", "sk-learn-baseline", "models/hf-internal-testing", "my_file:Bearer"])
def test_a_setting_that_only_looks_like_a_token_is_taken(name):
    assert Config(model=name).model == name
