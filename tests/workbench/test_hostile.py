"""Run folders that mean harm or are torn: every request is answered, and nothing of the outside is shown."""

import json
import os
import shutil

import pytest
from PIL import Image
from ui_folder import make_run

EVIL = "<script>alert(1)</script>"
PATHS = (
    "", "/metrics", "/diagnosis", "/samples/000000", "/samples/000000/sheet", "/samples/000000/0/0", "/groups", "/groups/3",
    "/groups/3/sheet",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("whole") / "run", iterations=4, sets=1, prompts=2, groups=1)


@pytest.fixture
def run(whole, tmp_path):
    """A copy to harm, and a secret beside it."""
    folder = tmp_path / "runs/run"
    shutil.copytree(whole, folder)
    (tmp_path / "secret.txt").write_text('{"SECRET": 1, "prompt": "SECRET"}')
    shutil.copytree(whole / "samples/000000", tmp_path / "elsewhere/000000")
    (tmp_path / "elsewhere/000000/prompts.txt").write_text("SECRET\n")
    return folder


def link(run, name, target="secret.txt"):
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(run.parents[1] / target)


def write(run, name, content):
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def pipe(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)


def edit(run, name, **changes):
    write(run, name, json.dumps(json.loads((run / name).read_text()) | changes))


GROUP, SCORES, STRIP = "groups/000003.json", "samples/000000/scores.json", "samples/000000/00.png"
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
ALIASES += "reward: *a11\n"
HARM = {
    "metrics elsewhere": lambda run: link(run, "metrics.jsonl"),
    "settings elsewhere": lambda run: link(run, "config.yaml"),
    "scores elsewhere": lambda run: link(run, "eval.json"),
    "samples elsewhere": lambda run: link(run, "samples", "elsewhere"),
    "a set elsewhere": lambda run: link(run, "samples/000000", "elsewhere/000000"),
    "prompts elsewhere": lambda run: link(run, "samples/000000/prompts.txt"),
    "groups elsewhere": lambda run: link(run, "groups", "elsewhere"),
    "a group elsewhere": lambda run: link(run, GROUP),
    "a lock elsewhere": lambda run: ((run / "finished").unlink(), (run / ".lock").symlink_to(run.parents[1] / "secret.txt")),
    "a pipe for scores": lambda run: pipe(run, "eval.json"),
    "a pipe for a group": lambda run: pipe(run, GROUP),
    "a pipe for a picture": lambda run: pipe(run, STRIP),
    "huge metrics": lambda run: os.truncate(run / "metrics.jsonl", 10**9),
    "a huge group": lambda run: os.truncate(run / GROUP, 10**9),
    "a huge picture": lambda run: os.truncate(run / STRIP, 10**9),
    "a torn picture": lambda run: write(run, STRIP, (run / STRIP).read_bytes()[:50]),
    "HTML for a picture": lambda run: write(run, STRIP, EVIL),
    "a picture of one column": lambda run: Image.new("RGB", (1, 70_000)).save(run / STRIP),
    "a sheet of one row": lambda run: Image.new("RGB", (70_000, 1)).save(run / "groups/000003.jpg", "PNG"),
    "a set that is being drawn": lambda run: (run / "samples/000000/prompts.txt").unlink(),
    "HTML for a sheet": lambda run: write(run, "groups/000003.jpg", EVIL),
    "garbage for metrics": lambda run: write(run, "metrics.jsonl", bytes(range(256)) * 99),
    "garbage for settings": lambda run: write(run, "config.yaml", bytes(range(256)) * 99),
    "settings that make objects": lambda run: write(run, "config.yaml", "a: !!python/object/apply:os.system [exit]"),
    "settings of another form": lambda run: write(run, "config.yaml", "rollout: 3\nobjective: [1]\nreward: 7\n.inf: .nan\n"),
    "aliases that stand for gigabytes": lambda run: write(run, "config.yaml", ALIASES),
    "a number of many digits": lambda run: write(run, "config.yaml", f"model: 0x{'f' * 9999}\nseed: 0x{'f' * 9999}\n"),
    "deep scores": lambda run: write(run, SCORES, "[" * 100_000),
    "a deep group": lambda run: write(run, GROUP, '{"groups": [{"reward": ' + "[" * 900 + "]" * 900 + "}]}"),
    "deep evaluation": lambda run: write(run, "eval.json", '{"base": ' + '{"a": ' * 900 + "1" + "}" * 901),
    "numbers that are none": lambda run: edit(run, SCORES, reward=[[EVIL, None, True, 10**400]], strict="x", parts={"a": 1}),
    "a group of another form": lambda run: edit(run, GROUP, groups=[1, {"reward": "x", "members": None}], cell=["x", -1]),
    "NaN in metrics": lambda run: write(run, "metrics.jsonl", '{"iteration": 0, "reward/mean": NaN, "x": 1e999}\n' * 3),
    "many names": lambda run: write(run, "metrics.jsonl", json.dumps({f"n{i}": 1.0 for i in range(5000)}) + "\n"),
    "half a character": lambda run: edit(run, GROUP, groups=[{"prompt": "\ud800", "reward": [1.0], "members": [0]}]),
    "a set of no number": lambda run: (run / "samples/000000").rename(run / "samples/0000000000000000000000000000009"),
    "no groups": lambda run: shutil.rmtree(run / "groups"),
    "no pictures": lambda run: shutil.rmtree(run / "samples"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_every_request_is_answered(run, served, name):
    HARM[name](run)
    client = served(run.parent)
    found = client.get("/api/runs")
    assert found.status_code == 200
    bodies = [found]
    for entry in found.json()["runs"]:
        bodies += [client.get(f"/api/runs/{entry['id']}{path}") for path in PATHS]
    assert {answer.status_code for answer in bodies} <= {200, 404}
    for answer in bodies:
        assert b"SECRET" not in answer.content
        assert len(answer.content) < 5_000_000
        assert answer.headers["content-type"].split(";")[0] in ("application/json", "image/png", "image/jpeg", "text/plain")
        if answer.headers["content-type"] == "application/json":
            json.loads(answer.content, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_secrets_are_hidden(run, served):
    token = "hf_" + "aB3dEfGh" * 4
    write(run, "config.yaml", f"model: http://me:pw@host/{token}\n")
    write(run, "samples/000000/prompts.txt", f"a {token}\n{token}\n")
    edit(run, GROUP, groups=[{"prompt": token, "members": [0], "reward": [0.5]}])
    client = served(run.parent)
    (entry,) = client.get("/api/runs").json()["runs"]
    for path in PATHS:
        content = client.get(f"/api/runs/{entry['id']}{path}").content
        assert token[:10].encode() not in content
        assert b"pw@" not in content


def test_choices_are_not_written_through_a_link(run, served):
    secret = run.parents[1] / "secret.txt"
    (run.parent / "comparisons.jsonl").symlink_to(secret)
    shutil.copytree(run / "samples/000000", run / "samples/000004")
    client = served(run.parent)
    (entry,) = client.get("/api/runs").json()["runs"]
    duel = f"/api/duels/{entry['id']}/000000/{entry['id']}/000004"
    pair = client.get(duel).json()["pairs"][0]["id"]
    answer = client.post(f"{duel}/{pair}", json={"choice": "left"}, headers={"origin": "http://127.0.0.1:8470"})
    assert answer.status_code == 409
    assert "comparisons.jsonl cannot be written" in answer.text
    assert secret.read_text() == '{"SECRET": 1, "prompt": "SECRET"}'
