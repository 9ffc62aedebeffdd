"""A judge's server that is not as it should be: each mistake is named, and a failed image costs no other its score."""

import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml

from vgrpo import Prompt
from vgrpo.rewards.base import RewardError, score_images
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.judge import JudgeSettings

RIGHT = json.dumps({"choices": [{"message": {"content": "Final Score: 4"}}]}).encode()


def http(content, status="200 OK", length=None):
    """The bytes of an answer."""
    return f"HTTP/1.0 {status}\r\nContent-Length: {length or len(content)}\r\n\r\n".encode() + content


MODELS = http(b'{"data": [{"id": "m"}, {"id": "other"}]}')
NO_ANSWERS = {
    "not HTTP": b"SSH-2.0\r\n",
    "truncated": http(b"{}", length=100),
    "bytes": http(b'{"choices": "\xff"}'),
    "no JSON": http(b"<html>"),
    "nothing": b"",
}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Load a judge whose server sends the given bytes for its models, and for each question what its prompt names."""
    monkeypatch.setattr("vgrpo.rewards.served.judge.PAUSE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    seen, servers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(self.models)

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"][1]["text"]
            self._send(self.answers.get(question, http(RIGHT)))

        def _send(self, content):
            seen.append((self.path, self.headers["Authorization"]))
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    def load(models=MODELS, answers=None, path="", **settings):
        handler = type("Server", (Handler,), {"models": models, "answers": answers or {}})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        values = {"url": f"http://127.0.0.1:{server.server_port}{path}", "model": "m", "question": "{prompt}", "pixels": 8}
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(values | settings))
        return load_reward(f"judge={tmp_path / 'judge.yaml'}"), seen

    yield load
    for server in servers:
        server.shutdown()
        server.server_close()


def score(judge, texts):
    return score_images(judge, torch.zeros(len(texts), 3, 8, 8), [Prompt(text=text) for text in texts])


@pytest.mark.parametrize("content", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_server_of_another_kind_is_one_clear_error(ask, content):
    with pytest.raises(ConnectionError, match=r"reward judge: no server answers at http://.*vllm serve m"):
        ask(models=content)


def test_an_address_that_is_none_is_one_clear_error(ask):
    with pytest.raises(ValueError, match=r"judge url: 'http://127.0.0.1:abc' is no address"):
        ask(url="http://127.0.0.1:abc")


@pytest.mark.parametrize("content", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_image_without_an_answer_is_nan_and_the_others_keep_their_scores(ask, content):
    judge, seen = ask(answers={"bad": content})
    scores = score(judge, ["good", "bad", "good"])
    assert scores[[0, 2]].tolist() == [4, 4]
    assert scores[1].isnan()
    assert len(seen) == 1 + 2 + 3  # the models, the good ones and three tries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (http(b'{"error":\n "model is asleep"}', "503 Busy"), 'HTTP 503 Busy: {"error": "model is asleep"}'),
        (http(RIGHT.replace(b"Final", b"My")), "an answer without a score in range: 'My Score: 4'"),
        (http(RIGHT.replace(b"4", b"9")), "an answer without a score in range: 'Final Score: 9'"),
    ],
)
def test_if_every_image_fails_the_last_reason_is_told(ask, content, message):
    judge, _ = ask(answers={"bad": content})
    with pytest.raises(RewardError, match=f"not one usable answer for 2 images, the last: {re.escape(message)}"):
        score(judge, ["bad", "bad"])


def test_a_pattern_that_finds_no_number_is_a_failed_reward(ask):
    judge, _ = ask(pattern=r"Final (\w+)")
    with pytest.raises(RewardError, match="without a score in range: 'Final Score: 4'"):
        score(judge, ["good"])


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_usual_base_of_openai_is_taken(ask, path):
    judge, seen = ask(path=path)
    assert score(judge, ["good"]).tolist() == [4]
    assert seen == [("/v1/models", None), ("/v1/chat/completions", None)]


def test_a_key_is_sent_along(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    judge, seen = ask()
    score(judge, ["good"])
    assert {key for _, key in seen} == {"Bearer secret"}


def test_a_model_that_the_server_does_not_have_is_refused_where_it_lists_any(ask):
    with pytest.raises(ValueError, match="does not serve the model mine; it serves m, other"):
        ask(model="mine")
    for content in (b"[]", b"{}", b'{"data": null}', b'{"data": []}'):
        ask(model="mine", models=http(content))


def test_the_pauses_between_tries_grow_in_seconds(ask, monkeypatch):
    judge, _ = ask(answers={"bad": NO_ANSWERS["nothing"]}, num_tries=4)
    pauses = []
    monkeypatch.setattr("vgrpo.rewards.served.judge.PAUSE", 1.0)
    monkeypatch.setattr("vgrpo.rewards.served.judge.time.sleep", pauses.append)
    judge._score(torch.zeros(3, 8, 8), Prompt(text="bad"))
    assert pauses == [1, 2, 4]


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"judge pattern='\(': not a regular expression \(missing \)"):
        JudgeSettings(url="http://x", model="m", question="{prompt}", pattern="(")


@pytest.mark.parametrize(
    ("text", "message"), [("url: [", "line 1: not YAML"), ("- url", "holds no settings"), ("", "holds no settings")]
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text, message):
    (tmp_path / "judge.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"judge.yaml.*{message}"):
        load_reward(f"judge={tmp_path / 'judge.yaml'}")


@pytest.mark.parametrize(
    "answer",
    [
        "**Final Score:** 4",
        "**Final Score**: 4",
        "final score: [4]",
        "### FINAL SCORE: `4`",
        "A first Final Score: 2 would be harsh, for it is sharp.\n\n**Final Score: 4**",
    ],
)
def test_scores_in_markdown_and_the_last_of_several(ask, answer):
    judge, _ = ask(answers={"q": http(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())})
    assert score(judge, ["q"]).tolist() == [4]


def test_a_pattern_with_brackets_is_taken_as_it_is(ask):
    answer = {"choices": [{"message": {"content": "[[3]]"}}]}
    judge, _ = ask(answers={"q": http(json.dumps(answer).encode())}, pattern=r"\[\[(\d)\]\]")
    assert score(judge, ["q"]).tolist() == [3]


def test_an_answer_that_was_cut_off_is_named(ask):
    answer = {"choices": [{"message": {"content": "Final Score: 2 would be"}, "finish_reason": "length"}]}
    judge, _ = ask(answers={"q": http(json.dumps(answer).encode())})
    with pytest.raises(RewardError, match="an answer cut off at max_tokens=256; give more: 'Final Score: 2 would be'"):
        score(judge, ["q"])


def first_words(**logprobs):
    """An answer whose first word is one of these, with their log-probabilities."""
    listed = [{"token": token.replace("_", " "), "logprob": value} for token, value in logprobs.items()]
    choice = {"message": {"content": "Yes"}, "finish_reason": "length", "logprobs": {"content": [{"top_logprobs": listed}]}}
    return http(json.dumps({"choices": [choice]}).encode())


def test_a_yes_is_scored_by_its_probability(ask):
    answers = {
        "sure": first_words(Yes=math.log(0.8), No=math.log(0.2)),
        "spelt": first_words(Yes=math.log(0.3), _yes=math.log(0.2), YES=math.log(0.1), No=math.log(0.2), Maybe=math.log(0.2)),
        "only no": first_words(No=-0.01),
    }
    judge, _ = ask(answers=answers, score="probability")
    assert score(judge, list(answers)).tolist() == pytest.approx([0.8, 0.75, 0.0])


def test_what_is_no_yes_or_no_is_a_failure_that_is_named(ask):
    answers = {"sure": first_words(Yes=-0.1), "else": first_words(Maybe=-0.1, Perhaps=-3.0)}
    judge, _ = ask(answers=answers, score="probability")
    assert score(judge, list(answers)).isnan().tolist() == [False, True]
    with pytest.raises(
        RewardError, match="neither Yes nor No among the first words of the answer, which are 'Maybe', 'Perhaps'"
    ):
        judge(torch.zeros(1, 3, 8, 8), [Prompt(text="else")])
    judge, _ = ask(score="probability", num_tries=1)  # answers with a number
    with pytest.raises(RewardError, match="no `logprobs`"):
        judge(torch.zeros(1, 3, 8, 8), [Prompt(text="x")])


def test_a_judge_of_yes_and_no_asks_for_one_token(tmp_path, ask):
    judge, _ = ask(score="probability")
    body = json.loads(judge._body(torch.zeros(3, 8, 8), Prompt(text="Is it red?")))
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
