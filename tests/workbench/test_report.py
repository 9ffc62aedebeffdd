"""report.html of whole runs, of runs that go on, and of folders that mean harm."""

import ast
import base64
import hashlib
import io
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from ui_folder import make_run

from vgrpo.training.record.events import RunFinished
from vgrpo.workbench import bundle
from vgrpo.workbench.report import ReportFile, write_report

LINE = {"iteration": 0, "reward/mean": 0.5, "grad_norm": 0.1, "seconds/total": 2.0, "images_per_second": 8.0}
SCORES = {"strict": 0.25, "reward": 0.5, "by_category": {"colors": {"strict": 0.25, "reward": 0.5}}}
BETTER = {"strict": 0.5, "reward": 0.75, "by_category": {"colors": {"strict": 0.5, "reward": 0.75}}}
EVIL = "<script>alert(1)</script>"


def png(color="red", size=(64, 64)):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def run(tmp_path):
    """A small whole run, and a secret beside it."""
    folder = tmp_path / "run"
    for name in ("000000", "000002"):
        (folder / "samples" / name).mkdir(parents=True)
        (folder / "samples" / name / "prompts.txt").write_text("a red heart\ntwo keys\n")
        for index in range(2):
            (folder / "samples" / name / f"{index:02d}.png").write_bytes(png())
    lines = [LINE | {"iteration": index, "monitor/mine": 0.1 * index} for index in range(2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text("model: sprites\nobjective: {name: flowgrpo}\n")
    scores = {"num_prompts": 7, "num_images": 14, "base": SCORES, "tuned": BETTER}
    (folder / "eval.json").write_text(json.dumps(scores))
    (tmp_path / "secret.txt").write_text("SECRET: 1\n")
    (tmp_path / "secret.png").write_bytes(png("blue"))
    return folder


def test_a_run_is_finished_without_its_report_too(run):
    (run / "report.html").mkdir()
    with pytest.warns(UserWarning, match="no report: .*vgrpo report"):
        ReportFile()(RunFinished(folder=run, evaluation={}, weights=run))


def test_no_secret_of_a_run_is_on_its_page(run):
    token = "hf_" + "aB3dEfGh" * 4
    (run / "config.yaml").write_text(f"model: http://me:pw@host/{token}\nobjective: {{name: '{token}'}}\n")
    (run / "samples/000000/prompts.txt").write_text(f"a heart with Bearer abcdef\n{'x' * 490} {token}\n")
    (run / "eval.json").write_text(json.dumps({"base": SCORES, "tuned": BETTER, "num_prompts": token, "num_images": 1}))
    line = LINE | {f"monitor/http://host/?api_key={token}": 0.5}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    page = write_report(run).read_text()
    assert "http://***@host/***" in page
    for secret in (token[:10], "pw@", "abcdef"):
        assert secret not in page


class Harmless(HTMLParser):
    """Refuses what could run or load something, but for the page's own script and styles."""

    def __init__(self):
        super().__init__()
        self.inside, self.texts, self.policy = "", {"script": [], "style": []}, ""

    def handle_starttag(self, tag, attributes):
        assert tag not in ("iframe", "object", "embed", "base", "form", "img", "svg"), tag
        self.inside = tag if tag in self.texts else ""
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert name not in ("src", "href") or value == "#main" or value.startswith("data:image/svg+xml;base64,"), value
        if dict(attributes).get("http-equiv"):
            self.policy = dict(attributes)["content"]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside].append(data)


def page_of(run):
    """What the page is told, after a look at what it is made of."""
    page = write_report(run).read_text()
    assert "SECRET" not in page
    harmless = Harmless()
    harmless.feed(page)
    told, script = harmless.texts["script"]
    (styles,) = harmless.texts["style"]
    for kind, text in (("script", script), ("style", styles)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in harmless.policy
    assert harmless.policy.startswith("default-src 'none'; ")
    assert "unsafe" not in harmless.policy
    assert "<" not in told
    return json.loads(told, parse_constant=lambda name: pytest.fail(name))


def of(told, name=""):
    return told[f"/api/runs/report{name}"]


def sheet_of(told, part):
    kind, _, data = of(told, f"/samples/{part}/sheet").partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_whole_run(run):
    told = page_of(run)
    assert (of(told)["name"], of(told)["folder"], of(told)["algorithm"]) == ("run", "run", "flowgrpo")
    assert of(told)["held_out"] == {"metric": "strict", "base": 0.25, "tuned": 0.5}
    assert of(told)["evaluation"]["tuned"]["by_category"]["colors"]["reward"] == 0.75
    assert of(told)["notes"] == []
    assert of(told, "/metrics")["columns"]["monitor/mine"] == [0.0, 0.1]
    assert of(told)["sets"] == ["000000", "000002"]
    assert sheet_of(told, "000002").size == (64, 128)  # two strips of four images
    assert of(told, "/diagnosis")["findings"] == []
    assert of(told, "/held-out")["iterations"] == []  # its pictures have no scores


def test_groups_and_checkpoints_are_thinned_out(tmp_path):
    run = make_run(tmp_path / "run", iterations=30, sets=9, prompts=2, groups=20)
    told = page_of(run)
    kept = of(told)["sets"]
    assert (len(kept), kept[0], kept[-1]) == (6, "000000", "000024")
    assert len(of(told, "/held-out")["iterations"]) == 9
    rows = of(told, "/groups")["groups"]
    assert [row["iteration"] for row in rows[::2]] == sorted({row["iteration"] for row in rows}, reverse=True)
    assert (len(rows), rows[0]["iteration"], rows[-1]["iteration"]) == (24, 29, 10)
    assert of(told, "/groups/29/sheet").startswith("data:image/jpeg;base64,")


def test_what_was_asked_of_a_run_is_on_its_page(run):
    lines = [{"iteration": 3, "command": "lr", "value": 2e-4, "note": f"slower {EVIL}"}, {"iteration": [], "command": 1}, []]
    (run / "steering.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{torn")
    first, second = of(page_of(run))["steered"]
    assert (first["iteration"], first["value"], first["note"]) == (3, 2e-4, f"slower {EVIL}")
    assert (second["iteration"], second["command"]) == (None, "1")


def edit_eval(run, change):
    content = json.loads((run / "eval.json").read_text())
    change(content)
    (run / "eval.json").write_text(json.dumps(content))


def test_a_run_that_goes_on_has_no_scores_yet(run):
    (run / "eval.json").write_text(json.dumps({"num_prompts": 7, "num_images": 14, "base": SCORES}))
    assert of(page_of(run))["held_out"]["tuned"] is None


def test_large_pictures_are_shrunk(run):
    (run / "samples/000002/00.png").write_bytes(png(size=(4096, 1024)))
    told = page_of(run)
    assert sheet_of(told, "000002").size == (1024, 512)
    assert len(json.dumps(told)) < 60_000


def link(run, name, target):
    path = run / name
    if path.is_dir():
        path.rename(path.with_name("moved"))
    path.unlink(missing_ok=True)
    path.symlink_to(run.parent / target)


def write(run, name, content):
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def folder_instead(run, name):
    (run / name).unlink()
    (run / name).mkdir()


def pipe_instead(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)


def large(run, name):
    os.truncate(run / name, 100_000_000)


HARM = {
    "a picture that is a link to the outside": (lambda run: link(run, "samples/000000/00.png", "secret.png"), "leads out"),
    "samples that are elsewhere": (lambda run: link(run, "samples", "elsewhere"), "samples: it leads out of the folder"),
    "prompts elsewhere": (lambda run: link(run, "samples/000000/prompts.txt", "secret.txt"), "leads out"),
    "settings elsewhere": (lambda run: link(run, "config.yaml", "secret.txt"), "config.yaml: it leads out of the folder"),
    "metrics elsewhere": (lambda run: link(run, "metrics.jsonl", "secret.txt"), "metrics.jsonl: it leads out of the folder"),
    "scores elsewhere": (lambda run: link(run, "eval.json", "secret.txt"), "eval.json: it leads out of the folder"),
    "a link in a circle": (lambda run: link(run, "eval.json", "run/eval.json"), "eval.json: it leads out of the folder"),
    "a device": (lambda run: link(run, "eval.json", "/dev/zero"), "eval.json: it leads out of the folder"),
    "a pipe": (lambda run: pipe_instead(run, "eval.json"), "eval.json: it is no file"),
    "a folder for scores": (lambda run: folder_instead(run, "eval.json"), "eval.json: it is no file"),
    "a folder for a picture": (lambda run: folder_instead(run, "samples/000000/01.png"), "01.png: it is no file"),
    "HTML for a picture": (lambda run: write(run, "samples/000000/00.png", EVIL), "00.png: not a PNG or JPEG picture"),
    "SVG for a picture": (lambda run: write(run, "samples/000000/00.png", f"<svg>{EVIL}</svg>"), "not a PNG or JPEG"),
    "a torn picture": (lambda run: write(run, "samples/000000/00.png", png()[:60]), "not a PNG or JPEG picture"),
    "a picture of too many pixels": (lambda run: write(run, "samples/000000/00.png", png(size=(9000, 9000))), "not a PNG"),
    "a huge picture": (lambda run: large(run, "samples/000000/00.png"), "00.png: it is larger than 64 MB"),
    "huge metrics": (lambda run: large(run, "metrics.jsonl"), "metrics.jsonl: it is larger than 64 MB; its beginning"),
    "huge scores": (lambda run: large(run, "eval.json"), "eval.json: it is larger than 16 MB"),
    "huge settings": (lambda run: large(run, "config.yaml"), "config.yaml: it is larger than 0.256 MB"),
    "verdicts elsewhere": (lambda run: link(run, "samples/000000/scores.json", "secret.txt"), "scores.json: it leads out"),
    "deep verdicts": (lambda run: write(run, "samples/000000/scores.json", "[" * 99_000), "scores.json: it is no JSON object"),
    "a log elsewhere": (lambda run: link(run, "steering.jsonl", "secret.txt"), "steering.jsonl: it leads out of the folder"),
    "garbage for metrics": (lambda run: write(run, "metrics.jsonl", bytes(range(256)) * 9), "9 of its lines are no JSON"),
    "garbage for settings": (lambda run: write(run, "config.yaml", bytes(range(256)) * 9), "config.yaml: it holds no settings"),
    "garbage for scores": (lambda run: write(run, "eval.json", bytes(range(256)) * 9), "eval.json: it is no JSON object"),
    "scores that are a list": (lambda run: write(run, "eval.json", "[1]"), "eval.json: it is no JSON object"),
    "deep scores": (lambda run: write(run, "eval.json", "[" * 200_000), "eval.json: it is no JSON object"),
    "settings that are a list": (lambda run: write(run, "config.yaml", "- 1"), "config.yaml: it holds no settings"),
    "settings that make objects": (
        lambda run: write(run, "config.yaml", "a: !!python/object/apply:os.system [exit]"),
        "config.yaml: it holds no settings",
    ),
    "a torn line": (
        lambda run: write(run, "metrics.jsonl", json.dumps(LINE) + '\n{"reward/mea\n'),
        "metrics.jsonl: 1 of its lines are no JSON object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_what_cannot_be_shown_is_left_out_and_named(run, name):
    (run.parent / "elsewhere/000000").mkdir(parents=True)
    (run.parent / "elsewhere/000000/00.png").write_bytes(png("blue"))
    harm, note = HARM[name]
    harm(run)
    assert note in "\n".join(of(page_of(run))["notes"])


def odd_numbers(content):
    content["num_prompts"] = EVIL
    content["base"]["strict"] = EVIL
    content["base"]["by_category"]["colors"]["reward"] = [EVIL]
    content["base"]["by_category"][EVIL] = EVIL
    content["tuned"]["reward"] = float("nan")
    content["tuned"]["by_category"] = EVIL


MISLEADING = {
    "HTML where a number should be": lambda run: edit_eval(run, odd_numbers),
    "a part that is a text": lambda run: edit_eval(run, lambda content: content.update(base=EVIL)),
    "HTML in a prompt": lambda run: write(run, "samples/000000/prompts.txt", f"{EVIL}'><img src=x onerror=alert(1)>\ntwo\n"),
    "HTML in settings": lambda run: write(run, "config.yaml", f"model: '{EVIL}'\nobjective: {{name: '{EVIL}'}}\n"),
    "an algorithm that is a list": lambda run: write(run, "config.yaml", f"objective: {{name: ['{EVIL}']}}\n"),
    "HTML in a monitor's name": lambda run: write(run, "metrics.jsonl", json.dumps(LINE | {f"monitor/{EVIL}": 1.0}) + "\n"),
    "NaN and infinity": lambda run: write(
        run, "metrics.jsonl", '{"reward/mean": NaN, "grad_norm": Infinity}\n' + json.dumps(LINE) + "\n"
    ),
    "numbers that are none": lambda run: write(
        run, "metrics.jsonl", json.dumps(dict.fromkeys(LINE, EVIL) | {"grad_norm": True, "x": 10**400}) + "\n"
    ),
    "numbers beyond a chart": lambda run: write(
        run, "metrics.jsonl", '{"reward/mean": 1e308}\n{"reward/mean": -1e308}\n' + json.dumps(LINE) + "\n"
    ),
    "half a character": lambda run: edit_eval(run, lambda content: content.update(num_prompts="\ud800")),
    "no metrics yet": lambda run: write(run, "metrics.jsonl", ""),
    "no prompts.txt": lambda run: (run / "samples/000000/prompts.txt").unlink(),
    "fewer prompts than pictures": lambda run: write(run, "samples/000000/prompts.txt", "a red heart\n"),
    "fewer pictures than prompts": lambda run: (run / "samples/000000/01.png").unlink(),
    "a later picture is missing": lambda run: (run / "samples/000002/01.png").unlink(),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_nothing_is_markup_and_nothing_is_assumed(run, name):
    MISLEADING[name](run)
    assert of(page_of(run))["name"] == "run"


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml"])
@pytest.mark.parametrize("harm", [lambda run, name: (run / name).unlink(), folder_instead, pipe_instead])
def test_a_folder_without_them_is_no_run(run, name, harm):
    harm(run, name)
    with pytest.raises(FileNotFoundError, match=f"is not a run's folder: it holds no {name}"):
        write_report(run)


def test_the_page_takes_a_links_place_and_does_not_follow_it(run):
    (run / "report.html").symlink_to(run.parent / "secret.txt")
    write_report(run)
    assert (run.parent / "secret.txt").read_text() == "SECRET: 1\n"
    assert not (run / "report.html").is_symlink()
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    with pytest.raises(IsADirectoryError, match=r"report.html is a folder; move it away"):
        write_report(run)


def test_a_picture_is_encoded_anew(run):
    """What hides behind the pixels of a file stays where it is."""
    (run / "samples/000000/00.png").write_bytes(png() + EVIL.encode() + b"SECRET")
    told = page_of(run)
    for name in ("000000", "000002"):
        data = base64.b64decode(of(told, f"/samples/{name}/sheet").partition("base64,")[2])
        assert b"SECRET" not in data


def test_many_iterations_make_a_page_of_bounded_size(run):
    lines = [json.dumps(LINE | {"iteration": index, "reward/mean": 1 / (index + 3)}) + "\n" for index in range(20_000)]
    (run / "metrics.jsonl").write_text("".join(lines))
    metrics = of(page_of(run), "/metrics")
    assert (metrics["rows"], metrics["every"]) == (1000, 20)
    assert metrics["columns"]["iteration"][:2] == [9.5, 29.5]
    assert (run / "report.html").stat().st_size < 400_000


def test_no_server_is_needed():
    """The base installation has none."""
    package, waiting, seen = Path(bundle.__file__).parents[1], ["workbench/report"], set()
    while waiting:
        file = package / f"{waiting.pop()}.py"
        for node in ast.walk(ast.parse(file.read_text())):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [name] if name else []
            names += [f"{name}.{alias.name}" for alias in node.names] if name else []
            assert not any(name.split(".")[0] in ("starlette", "uvicorn") for name in names), (file, names)
            paths = ["/".join(name.split(".")[1:]) for name in names if name.startswith("vgrpo.workbench")]
            new = [path for path in paths if (package / f"{path}.py").is_file() and path not in seen]
            seen.update(new)
            waiting += new
    assert {"workbench/answers", "workbench/pictures", "workbench/steering"} <= seen


def test_only_known_forms_of_modules_are_bundled(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "STATIC", tmp_path)
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = b + 1;\n')
    (tmp_path / "b.js").write_text("export const b = 1;\n")
    assert bundle.script("a.js").index("const of_b_js") < bundle.script("a.js").index("const { b } = of_b_js;")
    (tmp_path / "b.js").write_text('export * from "./c.js";\n')
    with pytest.raises(AssertionError, match=r"b.js: a form of import or export that is not known"):
        bundle.script("a.js")
