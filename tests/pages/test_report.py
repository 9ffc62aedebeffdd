"""report.html of whole runs, of runs that go on, and of folders that mean harm."""

import base64
import io
import json
import os
import re
from html.parser import HTMLParser

import pytest
from PIL import Image, ImageColor

from vgrpo.pages.charts import ticks
from vgrpo.pages.frames import FRAME, RIGHT, WRONG
from vgrpo.pages.report import write_report

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
    """Refuses what could run or load something."""

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "a"), tag
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert name not in ("src", "href") or value.startswith(("data:image/png;", "data:image/jpeg;")), value


def page_of(run):
    page = write_report(run).read_text()
    assert "SECRET" not in page
    Harmless().feed(page)
    return page


def test_a_whole_run(run):
    page = page_of(run)
    assert "<p class=lead>flowgrpo, 2 iterations</p>" in page
    assert page.count("<svg") == 3
    assert "mine, watched and not trained on" in page
    assert page.count("data:image/png") == 4
    assert len(pictures_of(page)) == 4
    assert pictures_of(page)[0].size == (4 * (16 * 4 + 2 + 6) - 6, 64 * 4 + 2)  # pixel art is enlarged four times
    assert "0.250 → 0.500" in page
    assert "held-out strict score" in page
    assert "<tr><td>colors<td>0.250<td>0.500<td class=up>+0.250<td>0.500<td>0.750<td class=up>+0.250" in page
    assert "Not all is shown" not in page


def pictures_of(page):
    data = re.findall(r"src='data:image/\w+;base64,([^']+)'", page)
    return [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in data]


def test_pictures_are_framed_and_marked_by_what_the_verifier_says(run):
    """White between frames; below green for right, red for wrong, nothing where nobody knows."""
    for name, rows in (("000000", [[0, 1, None, 1], "x"]), ("000002", [[1, 1]])):
        (run / "samples" / name / "scores.json").write_text(json.dumps({"strict": rows}))
        for index in range(2):
            (run / "samples" / name / f"{index:02d}.png").write_bytes(png("blue", size=(256, 64)))
    page = page_of(run)
    before, after, *others = pictures_of(page)
    side = 256
    lefts = [place * (side + 2 + 6) for place in range(4)]
    band = side // 7 + 6
    assert before.size == after.size == (lefts[3] + side + 2, side + 2 + band)
    assert others[0].size == (lefts[3] + side + 2, side + 2)  # nothing is known of them
    assert all(before.getpixel((left - 3, side // 2)) == (255, 255, 255) for left in lefts[1:])
    assert all(before.getpixel((left, side // 2)) == ImageColor.getrgb(FRAME) for left in lefts)
    assert all(before.getpixel((left + side // 2, side // 2)) == (0, 0, 255) for left in lefts)

    def marks(picture):
        found = []
        for left in lefts:
            colors = {color for _, color in picture.crop((left, side + 2, left + side, picture.height)).getcolors(10**6)}
            found.append([color in colors for color in map(ImageColor.getrgb, (RIGHT, WRONG))])
        return found

    right, wrong, neither = [True, False], [False, True], [False, False]
    assert marks(before) == [wrong, right, neither, right]
    assert marks(after) == [right, right, neither, neither]
    assert "alt='a red heart (wrong, right, not judged, right)'" in page
    assert "A tick is a picture that the verifier calls right" in page


def test_what_was_asked_of_a_run_is_on_its_page(run):
    lines = [{"iteration": 3, "command": "lr", "value": 2e-4, "note": f"slower {EVIL}"}, {"iteration": [], "command": 1}, []]
    (run / "steering.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{torn")
    page = page_of(run)
    assert "<tr><td>3<td>lr 0.0002<td>slower &lt;script&gt;" in page
    assert page.count("<tr><td>list<td>1<td>None") == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0442, 0.0968, [0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]),
        (0.31, 0.93, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.2, 7.1, [-4, -2, 0, 2, 4, 6, 8]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 75, [0, 20, 40, 60, 80]),
        (2e-5, 9e-5, [2e-5, 4e-5, 6e-5, 8e-5, 1e-4]),
        (5, 5, [2, 3, 4, 5, 6, 7, 8]),
        (0, 0, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_axes_carry_round_numbers(low, high, expected):
    found = ticks(low, high, 3)
    assert found == pytest.approx(expected)
    assert found[0] <= low
    assert found[-1] >= high


def test_every_label_of_an_axis_is_short(run):
    values = [0.04421 + 0.0137 * index for index in range(75)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(LINE | {"reward/mean": value}) + "\n" for value in values))
    chart = page_of(run).split("<svg")[1]
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
    assert labels == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "10", "20", "30", "40", "50", "60", "70"]


def edit_eval(run, change):
    content = json.loads((run / "eval.json").read_text())
    change(content)
    (run / "eval.json").write_text(json.dumps(content))


@pytest.mark.parametrize("strict", ["absent", "null"])
def test_a_run_whose_scores_are_of_no_world(run, strict):
    """Older runs wrote null where newer ones write nothing."""

    def change(content):
        for part in ("base", "tuned"):
            for entry in (content[part], content[part]["by_category"]["colors"]):
                entry.pop("strict")
                if strict == "null":
                    entry["strict"] = None

    edit_eval(run, change)
    page = page_of(run)
    assert "held-out reward score" in page
    assert "<tr><td>colors<td>0.500<td>0.750<td class=up>+0.250<tr>" in page
    assert "strict" not in page


def test_a_run_that_goes_on_has_no_scores_yet(run):
    (run / "eval.json").write_text(json.dumps({"num_prompts": 7, "num_images": 14, "base": SCORES}))
    page = page_of(run)
    assert "Held-out scores" not in page
    assert page.count("<svg") == 3


def test_pictures_of_other_models_are_smooth(run):
    (run / "config.yaml").write_text("model: some/other\nprompts: p.txt\n")
    (run / "samples/000002/00.png").write_bytes(png(size=(4096, 1024)))
    page = page_of(run)
    assert [picture.height for picture in pictures_of(page)] == [64 + 2, 256 + 2, 64 + 2, 64 + 2]
    assert page.count("data:image/jpeg") == 1  # shrunk
    assert len(page) < 60_000


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
    "deep verdicts": (lambda run: write(run, "samples/000000/scores.json", "[" * 99_000), "scores.json: it holds no scores"),
    "a log elsewhere": (lambda run: link(run, "steering.jsonl", "secret.txt"), "steering.jsonl: it leads out of the folder"),
    "garbage for metrics": (lambda run: write(run, "metrics.jsonl", bytes(range(256)) * 9), "parts of it are not UTF-8"),
    "garbage for settings": (lambda run: write(run, "config.yaml", bytes(range(256)) * 9), "config.yaml: it holds no settings"),
    "garbage for scores": (lambda run: write(run, "eval.json", bytes(range(256)) * 9), "eval.json: it is no JSON object"),
    "scores that are a list": (lambda run: write(run, "eval.json", "[1]"), "eval.json: it is no JSON object"),
    "deep scores": (lambda run: write(run, "eval.json", "[" * 200_000), "eval.json: it is no JSON object"),
    "settings that are a list": (lambda run: write(run, "config.yaml", "- 1"), "config.yaml: it holds no settings"),
    "settings that make objects": (
        lambda run: write(run, "config.yaml", "a: !!python/object/apply:os.system [exit]"),
        "config.yaml: it holds no settings",
    ),
    "a torn last line": (
        lambda run: write(run, "metrics.jsonl", json.dumps(LINE) + '\n{"reward/mea'),
        "metrics.jsonl: 1 of its lines are no JSON object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_what_cannot_be_shown_is_left_out_and_named(run, name):
    (run.parent / "elsewhere/000000").mkdir(parents=True)
    (run.parent / "elsewhere/000000/00.png").write_bytes(png("blue"))
    harm, note = HARM[name]
    harm(run)
    page = page_of(run)
    assert "Not all is shown" in page
    assert note in page.partition("<div class=tiles>")[0]


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
def test_every_value_is_escaped_and_nothing_is_assumed(run, name):
    MISLEADING[name](run)
    shown = page_of(run).lower().partition("<h2>settings")[0]
    for word in ("nan", "inf"):
        assert word not in shown


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
    page = page_of(run)
    assert page.count("data:image/png") == 4
    for part in page.split("base64,")[1:]:
        assert b"SECRET" not in base64.b64decode(part.partition("'")[0])


def test_many_iterations_make_a_page_of_bounded_size(run):
    line = json.dumps(LINE) + "\n"
    (run / "metrics.jsonl").write_text(line * 20_000)
    assert len(page_of(run)) < 300_000
