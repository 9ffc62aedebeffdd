"""What the server says of run folders, and that it reads what is new and no more."""

import asyncio
import io
import json
import os
import shutil
import time

import pytest
from PIL import Image
from ui_folder import make_run

from vgrpo.workbench import live
from vgrpo.workbench.duels import Duel, Side, wilson, worth
from vgrpo.workbench.folders import Folders
from vgrpo.workbench.index import Index
from vgrpo.workbench.runs import Run

ORIGIN = {"origin": "http://127.0.0.1:8470"}


@pytest.fixture
def client(served, runs):
    return served(runs)


def ids(client):
    return {run["name"]: run["id"] for run in client.get("/api/runs").json()["runs"]}


def picture(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_runs_are_found_where_they_lie(client):
    runs = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert runs.keys() == {"good", "deep/hacked"}
    good = runs["good"]
    assert (good["iterations"], good["planned"], good["state"]) == (60, 60, "finished")
    assert good["held_out"] == {"metric": "strict", "base": 0.25, "tuned": 0.5}
    assert len(good["spark"]) == 60


def test_a_run_that_is_named_itself_is_the_only_one(served, runs):
    assert list(ids(served(runs / "good"))) == ["good"]


def test_a_run_has_its_settings_scores_and_pictures(client):
    run = client.get(f"/api/runs/{ids(client)['good']}").json()
    assert run["settings"]["update.lr"] == "0.0003"
    assert run["settings"]["reward"] == '["sprites", "pickscore"]'
    assert run["evaluation"]["tuned"]["by_category"]["colors"]["reward"] == 0.7
    assert run["sets"] == ["000000", "000020", "000040", "000060"]
    assert len([text for text in run["prompts"] if text]) == 5
    assert run["notes"] == []


def test_numbers_come_from_a_row_on(client):
    path = f"/api/runs/{ids(client)['good']}/metrics"
    whole, rest = client.get(path).json(), client.get(f"{path}?after=58").json()
    assert (whole["rows"], rest["start"]) == (60, 58)
    assert whole["columns"]["iteration"] == list(range(60))
    assert rest["columns"]["reward/mean"] == whole["columns"]["reward/mean"][58:]
    assert client.get(f"{path}?after=1000").json()["columns"]["iteration"] == []


def test_a_run_that_goes_on_and_one_that_is_resumed(served, tmp_path):
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: sprites\n")
    lines = [json.dumps({"iteration": i, "reward/mean": i / 10}) + "\n" for i in range(6)]
    (folder / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][:9])
    client = served(tmp_path / "runs")
    path = f"/api/runs/{ids(client)['a']}"
    rows = lambda: client.get(f"{path}/metrics").json()["columns"]["iteration"]  # noqa: E731
    assert rows() == [0, 1]  # the third is half written
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(lines[2][9:] + lines[3])
    assert rows() == [0, 1, 2, 3]
    draft = folder / "draft"  # resumed from iteration 1: another file takes its place
    draft.write_text(lines[0])
    draft.replace(folder / "metrics.jsonl")
    assert rows() == [0]
    assert client.get(path).json()["state"] == "stopped"
    (folder / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    assert client.get(path).json()["state"] == "running"
    (folder / ".lock").write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))
    assert client.get(path).json()["state"] == "stopped"


def test_samples_are_sheets_and_single_pictures(client):
    path = f"/api/runs/{ids(client)['good']}/samples/000060"
    entry = client.get(path).json()
    assert entry["pictures"] == list(range(5))
    assert len(entry["reward"][0]) == len(entry["strict"][4]) == 4
    assert entry["found"]["sprites"][4][3][0] == ["red thing", 250, 250, 500, 500]
    sheet, one = picture(client.get(f"{path}/sheet")), picture(client.get(f"{path}/3/2"))
    assert (sheet.size, one.size) == ((256, 320), (64, 64))
    assert sheet.crop((128, 192, 192, 256)).tobytes() == one.tobytes()
    assert "--lora" in entry["remake"]["command"]
    assert entry["remake"]["note"] == ""
    assert "newest" in client.get(path.replace("60", "40")).json()["remake"]["note"]
    assert "--lora" not in client.get(path.replace("60", "00")).json()["remake"]["command"]


def test_folders_are_read_again_only_where_something_changed(tmp_path, monkeypatch):
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("config.yaml", "metrics.jsonl"):
            (tmp_path / name / file).touch()
    before = time.time() - 60
    for folder in (tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "b/c"):
        os.utime(folder, (before, before))
    listed, folders = [], Folders(tmp_path)
    scandir = os.scandir
    monkeypatch.setattr("vgrpo.workbench.folders.os.scandir", lambda path: [listed.append(path), scandir(path)][1])
    assert folders.runs() == [tmp_path / "a", tmp_path / "b/c"]
    assert len(listed) == 4
    listed.clear()
    assert len(folders.runs()) == 2
    assert listed == []
    (tmp_path / "a/metrics.jsonl").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert folders.runs() == [tmp_path / "b/c"]
    assert listed == [tmp_path, tmp_path / "a"]
    shutil.rmtree(tmp_path / "b")
    assert folders.runs() == []


def test_choices_belong_to_pictures_and_not_to_names(tmp_path):
    make_run(tmp_path / "a", iterations=4, sets=2, prompts=2)
    make_run(tmp_path / "other", iterations=4, sets=2, prompts=2, lr=1.0)
    sides = lambda name: [Side(run=Run(tmp_path / name, name), part=part) for part in ("000000", "000004")]  # noqa: E731
    id_of = lambda name: Duel(first=sides(name)[0], second=sides(name)[1]).id  # noqa: E731
    before = id_of("a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    shutil.move(tmp_path / "other", tmp_path / "a")
    assert id_of("b") == before != id_of("a")


def test_a_sheet_is_made_once(client, runs, tmp_path):
    path = f"/api/runs/{ids(client)['good']}/samples/000020"
    first = client.get(f"{path}/sheet").content
    (kept,) = (tmp_path / "cache/sheets").glob("*.sheet")
    assert kept.read_bytes() == first
    strip = runs / "good/samples/000020/00.png"
    before = strip.read_bytes()
    Image.new("RGB", (256, 64), "blue").save(strip)
    try:
        assert picture(client.get(f"{path}/sheet")).getpixel((5, 5)) == (0, 0, 255)
    finally:
        strip.write_bytes(before)


def test_groups_come_in_pages_and_by_their_words(client, runs):
    path = f"/api/runs/{ids(client)['good']}/groups"
    rows, last = [], ""
    while page := client.get(f"{path}?limit=5{last}").json()["groups"]:
        rows += page
        last = f"&before={page[-1]['iteration']}&place={page[-1]['place']}"
    places = [(row["iteration"], row["place"]) for row in rows]
    assert places == sorted(places, key=lambda place: (-place[0], place[1]))
    assert len(set(places)) == 24
    words = rows[7]["prompt"].upper()
    assert rows[7] in client.get(path, params={"words": words, "limit": 50}).json()["groups"]
    assert client.get(f"{path}?words=nobody").json()["groups"] == []
    assert client.get(f"{path}?words=%25").json()["groups"] == []  # a sign of SQL's is a sign
    group = client.get(f"{path}/{rows[0]['iteration']}").json()["groups"][rows[0]["place"]]
    assert group["reward"] == sorted(group["reward"], reverse=True)
    assert picture(client.get(f"{path}/{rows[0]['iteration']}/sheet")).size == (1024, 128)


def test_a_long_run_is_read_in_parts_the_newest_first(client, monkeypatch):
    monkeypatch.setattr("vgrpo.workbench.pictures.MOST_READ", 5)
    path = f"/api/runs/{ids(client)['good']}/groups?limit=50"
    answers = [client.get(path).json() for _ in range(4)]
    assert [answer["left"] for answer in answers] == [7, 2, 0, 0]
    assert [len(answer["groups"]) for answer in answers] == [10, 20, 24, 24]
    assert answers[0]["groups"] == answers[3]["groups"][:10]


def test_the_index_is_made_anew_if_it_is_torn(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 100)
    index = Index(tmp_path)
    index.keep_summary("a", "stamp", {"x": 1})
    index.close()
    index = Index(tmp_path)
    assert index.summary("a", "stamp") == {"x": 1}
    assert index.summary("a", "other") is None


def test_a_blind_comparison(client, runs):
    run = ids(client)["good"]
    path = f"/api/duels/{run}/000000/{run}/000060"
    duel = client.get(path).json()
    assert len(duel["pairs"]) == 20
    assert not any(name in json.dumps(duel) for name in ("000000", "000060", "good"))
    sides = {}
    for pair in duel["pairs"]:
        index, member = pair["id"].split(".")
        first = client.get(f"/api/runs/{run}/samples/000000/{index}/{member}").content
        shown = [client.get(f"{path}/{pair['id']}/{place}").content for place in ("left", "right")]
        assert first in shown
        sides[pair["id"]] = ("left", "right")[shown[0] == first]  # where the second one stands
    assert len(set(sides.values())) == 2
    for number, (pair, second) in enumerate(sides.items()):
        other = "left" if second == "right" else "right"
        choice = "tie" if number < 2 else other if number < 5 else second
        assert client.post(f"{path}/{pair}", json={"choice": choice}, headers=ORIGIN).status_code == 200
    try:
        found = client.get(f"{path}/result").json()
        assert (found["first"], found["second"], found["tie"], found["share"]) == (3, 15, 2, 0.8)
        assert wilson(0.8, 5)[0] <= found["low"] <= wilson(0.8, 20)[0]  # 20 choices about 5 prompts
        assert all(pair["decided"] for pair in client.get(path).json()["pairs"])
        lines = [json.loads(line) for line in client.get(f"{path}/preferences").text.splitlines()]
        assert len(lines) == 18
        assert sum(line["chosen"]["strip"].startswith("samples/000060/") for line in lines) == 15
        assert client.post(f"{path}/{pair}", json={"choice": "up"}, headers=ORIGIN).status_code == 400
    finally:
        (runs / "comparisons.jsonl").unlink()


def test_wilsons_interval():
    """Of 8 in 10: Wilson (1927), by hand."""
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_choices_about_one_prompt_are_worth_less_where_they_agree():
    """By hand: five prompts of four pairs, of 20 choices 16 for the second."""

    def kept(*seconds):
        winners = [["second"] * count + ["first"] * (4 - count) for count in seconds]
        lines = [{"prompt": str(index), "winner": winner} for index, row in enumerate(winners) for winner in row]
        return dict(enumerate(lines))

    assert worth(kept(4, 4, 4, 4, 0), 0.8) == 5  # all four of a prompt alike: as good as one
    assert worth(kept(3, 3, 3, 3, 4), 0.8) == 20
    assert worth(kept(4, 4, 4, 3, 1), 0.8) == pytest.approx(0.16 / (1.25 * (3 * 0.8**2 + 0.2**2 + 2.2**2) / 400))


def test_what_changes_is_told():
    class Changing:
        id = "r"
        stamps = iter("aab")

        def files(self):
            files = type("Files", (), {})()
            now = next(self.stamps)
            files.stamp = lambda name: now if name == "metrics.jsonl" else None
            files.names = lambda name: []
            return files

    lines = []

    async def read():
        async for text in live.events([Changing()], lambda: len(lines) == 2, every=0):
            lines.append(text)

    asyncio.run(read())
    assert lines[-1] == 'event: changed\ndata: {"run": "r", "parts": ["metrics"]}\n\n'
    assert len(lines) == 2
