"""Secrets are hidden, and nothing else."""

import pytest

from vgrpo.support.secrets import redact


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
