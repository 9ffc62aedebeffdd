"""The page in a real browser: every feature clicked through, without an error on the console, and checked by axe-core.

Needs Debian's chromium (apt-get install chromium) or VGRPO_BROWSER, the path of another one. CI sets VGRPO_NEEDS_BROWSER, with
which a missing browser fails instead of being skipped.
"""

import json
import os
import re
import shutil
import socket
import threading
import time

import pytest
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file
from ui_folder import make_run

from vgrpo import train
from vgrpo.training.control.requests import Answer, answer, pending
from vgrpo.workbench.report import write_report

TOKEN, WIDE, NARROW = "a-token", {"width": 1280, "height": 900}, {"width": 400, "height": 850}
BROWSER = os.environ.get("VGRPO_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync".split()
EVIL = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The folder of runs and the address of a server over it."""
    import uvicorn

    from vgrpo.workbench.server import make_app

    folder = tmp_path_factory.mktemp("browsed")
    make_run(folder / "good", iterations=60, sets=4, prompts=5, groups=12)
    make_run(folder / "hacked", iterations=80, sets=3, prompts=5, groups=2, hacked=True, lr=1e-3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        app = make_app(folder, tmp_path_factory.mktemp("cache"), TOKEN, port, leaving=lambda: running.should_exit)
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{port}"
        running.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def session():
    """One browser for all tests here."""
    if BROWSER is None:
        if os.environ.get("VGRPO_NEEDS_BROWSER"):
            pytest.fail("no browser: apt-get install chromium, or name one in VGRPO_BROWSER")
        pytest.skip("no browser: apt-get install chromium, or name one in VGRPO_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def errors():
    """What the console and the network complained of; empty at the end of every test."""
    return []


@pytest.fixture(scope="module")
def tab(session, server, errors):
    context = session.new_context(viewport=WIDE, color_scheme="light", reduced_motion="reduce")
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda asked: None if asked.url.startswith((server[1], "blob:")) else errors.append(asked.url))
    tab.goto(f"{server[1]}/?token={TOKEN}")
    tab.wait_for_selector(".run-line")
    yield tab
    context.close()


@pytest.fixture(autouse=True)
def clean(errors):
    yield
    found = list(errors)
    errors.clear()
    assert found == []


def run_id(tab, name):
    runs = tab.evaluate("fetch('/api/runs').then((answer) => answer.json())")["runs"]
    return next(run["id"] for run in runs if run["name"] == name)


def go(tab, server, path, selector):
    tab.goto(f"{server[1]}/#/{path}")
    tab.wait_for_selector(selector)


def downloaded(tab, label):
    with tab.expect_download() as waiting:
        tab.get_by_label(label).first.click()
    with open(waiting.value.path(), "rb") as file:
        return file.read()


class Slow:
    """Answers to a page's questions that are held back until they are let go."""

    def __init__(self, tab, path):
        self.held, self.holding = [], True
        tab.route(re.compile(re.escape(path)), self.meet)

    def meet(self, route):
        if self.holding and route.request.method == "GET":
            self.held.append((route, route.fetch()))
        else:
            route.continue_()

    def wait(self, tab):
        """Until a question is answered, and the answer held back."""
        until = time.monotonic() + 10
        while not self.held and time.monotonic() < until:
            tab.wait_for_timeout(20)
        assert self.held

    def let_go(self):
        self.holding = False
        for route, found in self.held:
            route.fulfill(response=found)


def test_the_list_of_runs(tab, server):
    assert tab.url == f"{server[1]}/"  # the token is gone from the address
    assert tab.locator(".run-line .title").all_inner_texts() == ["hacked", "good"]
    tab.fill("input[type=search]", "goo")
    assert tab.locator(".run-line .title").all_inner_texts() == ["good"]
    tab.fill("input[type=search]", "")


def test_pictures_scrub_search_and_sort(tab, server):
    go(tab, server, f"run/{run_id(tab, 'good')}/pictures", ".cards .cell")
    assert tab.locator(".cell").count() == 20
    sheet = "getComputedStyle(document.querySelector('.cards')).getPropertyValue('--sheet')"
    last = tab.evaluate(sheet)
    assert "samples/000060/" in last
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function(f"() => {sheet}.includes('samples/000040/')")
    assert tab.locator(".scrub output").inner_text() == "iteration 40"
    tab.locator(".scrub input").fill("0")
    tab.wait_for_function(f"() => {sheet}.includes('samples/000000/')")
    tab.get_by_label("Play").click()
    tab.wait_for_function(f"() => !{sheet}.includes('samples/000000/')")
    tab.get_by_label("Stop").click()
    tab.keyboard.press("/")
    tab.keyboard.type("number 3")
    assert tab.locator(".prompt").count() == 1
    tab.fill("input[type=search]", "nobody")
    assert "No prompt has these words" in tab.inner_text("main")
    tab.fill("input[type=search]", "")
    tab.get_by_label("Order").select_option("best")
    means = [float(re.match(r"[\d.]+", text).group()) for text in tab.locator(".prompt > .row .num").all_text_contents()]
    assert means == sorted(means, reverse=True)
    tab.get_by_text("Side by side").click()
    tab.wait_for_selector(".matrix .cell")
    assert tab.locator(".matrix thead th").all_inner_texts() == ["prompt", "0", "20", "40", "60"]


def test_one_picture_with_its_divider_scores_and_command(tab, server):
    go(tab, server, f"run/{run_id(tab, 'good')}/groups", ".group")
    go(tab, server, f"run/{run_id(tab, 'good')}/pictures", ".cards .cell")
    tab.locator(".cell").nth(5).click()
    tab.wait_for_selector("dialog .divider img.after")
    box = tab.locator(".divider").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50, steps=3)
    tab.mouse.up()
    assert tab.locator(".divider").evaluate("(element) => element.style.getPropertyValue('--at')") in ("24%", "25%", "26%")
    tab.keyboard.press("ArrowRight")
    assert int(tab.locator(".divider input").input_value()) in (25, 26, 27)
    assert tab.locator("dialog svg.boxes").count() == 2
    tab.locator("dialog .found button").nth(1).focus()
    assert tab.locator("dialog svg.before g.lit text").inner_html() == "2"
    tab.get_by_label("Frames").uncheck()
    assert not tab.locator("dialog svg.after").is_visible()
    tab.get_by_label("Frames").check()
    text = tab.inner_text("dialog")
    assert "What sprites saw" in text
    assert "vgrpo sample --model sprites" in text
    assert '(0, "sample", 1, 1)' in text
    assert {"reward", "strict"} <= set(tab.locator("dialog tbody td:first-child").all_inner_texts())
    tab.keyboard.press("Escape")
    tab.wait_for_selector("dialog", state="detached")


def test_groups_from_best_to_worst(tab, server):
    go(tab, server, f"run/{run_id(tab, 'good')}/groups", ".group")
    assert tab.locator(".group").count() == 15
    tab.get_by_text("Earlier groups").click()
    tab.wait_for_function("() => document.querySelectorAll('.group').length === 24")
    rewards = [float(text) for text in tab.locator(".group").first.locator(".member .num").all_text_contents()]
    assert rewards == sorted(rewards, reverse=True)
    tab.locator(".member").first.click()
    assert re.search(r'named_noise\(policy, 0, "iteration", 59, "noise", \d, 0\)', tab.inner_text("dialog"))
    assert tab.locator("dialog svg.whole g").count() == 2
    tab.keyboard.press("Escape")
    tab.fill("input[type=search]", "nobody")
    tab.wait_for_selector("text=No group has these words")


def test_curves_their_axes_and_exports(tab, server):
    go(tab, server, f"run/{run_id(tab, 'hacked')}/curves", ".chart canvas")
    titles = tab.locator(".chart h3").all_inner_texts()
    assert {"Reward beside monitors, in spreads of their start", "Diversity"} <= set(titles)
    picture = "document.querySelector('.chart canvas').toDataURL()"
    before = tab.evaluate(picture)
    for act in (
        lambda: tab.get_by_role("button", name="Time", exact=True).click(),
        lambda: tab.get_by_role("button", name="Evaluations").click(),
        lambda: tab.get_by_label("Smoothing").fill("0.9"),
        lambda: tab.get_by_label("Log scale").check(),
    ):
        act()
        after = tab.evaluate(picture)
        assert after != before
        before = after
    tab.get_by_label("Log scale").uncheck()
    name = "Reward and its spread"
    assert downloaded(tab, f"PNG of {name}").startswith(b"\x89PNG")
    assert downloaded(tab, f"SVG of {name}").count(b"<polyline") == 1
    lines = downloaded(tab, f"CSV of {name}").decode().splitlines()
    assert lines[0] == 'line,"network evaluations",value,smoothed'
    assert len(lines) == 81


def test_the_gap_between_training_and_held_out_prompts_is_shaded(tab, server):
    """A fill lets 12% of its colour through: pixels of just that opacity are counted."""
    go(tab, server, f"run/{run_id(tab, 'good')}/curves", ".chart canvas")
    shaded = """([title, least]) => {
        const found = [...document.querySelectorAll('.chart')].find((each) => each.querySelector('h3').innerText === title);
        found.scrollIntoView();
        const canvas = found.querySelector('canvas');
        if (!canvas) return null;
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
        const count = data.filter((value, i) => i % 4 === 3 && (value === 30 || value === 31)).length;
        return count >= least ? {count} : null;
    }"""
    tab.wait_for_function(shaded, arg=["Reward on training prompts and on held-out ones", 1000])
    plain = tab.wait_for_function(shaded, arg=["Spread of the reward", 0]).json_value()
    assert plain["count"] < 100


def test_changes_since_a_chosen_checkpoint(tab, server):
    go(tab, server, f"run/{run_id(tab, 'good')}/pictures", ".cards .cell")
    tab.get_by_label("changes since").select_option("000060")
    tab.wait_for_function("() => !document.querySelector('.prompt .num .good, .prompt .num .bad')")
    tab.get_by_label("changes since").select_option("000000")
    tab.wait_for_selector(".prompt .num .good")


def test_checkpoints_with_what_they_score_and_their_export(tab, server, errors):
    (server[0] / "good/checkpoints/iteration-000040").mkdir(parents=True, exist_ok=True)
    (server[0] / "good/lora").mkdir(exist_ok=True)
    (server[0] / "good/lora/pytorch_lora_weights.safetensors").write_bytes(b"")
    go(tab, server, f"run/{run_id(tab, 'good')}/checkpoints", ".chart canvas")
    assert tab.locator(".chart h3").all_inner_texts() == ["Reward, held out", "Right in the strict sense", "Monitors, held out"]
    assert tab.locator("tbody td:first-child").all_inner_texts() == ["60", "40", "20", "0"]
    assert "★ best" in tab.inner_text("tbody")
    tab.get_by_label("Export iteration 40").click()
    tab.get_by_role("button", name="ComfyUI").click()
    tab.get_by_text("Write the files").click()
    tab.wait_for_selector("dialog .error")  # nothing of this run was trained
    assert "damaged" in tab.inner_text("dialog .error") or "trained" in tab.inner_text("dialog .error")
    errors[:] = [text for text in errors if "409" not in text]  # the browser's own note of the answer
    tab.keyboard.press("Escape")


def test_a_checkpoint_that_was_trained_is_exported_by_clicks(tab, server):
    folder = server[0] / "trained"
    config = tiny_config(folder, num_iterations=2, checkpoint_every=1, keep_checkpoints=2)
    train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    go(tab, server, f"run/{run_id(tab, 'trained')}/checkpoints", "tbody td")
    tab.get_by_label("Export iteration 1").click()
    tab.get_by_text("Write the files").click()
    tab.wait_for_selector("text=✓ Written to")
    target = folder / "export-diffusers-000001"
    told = tab.locator("dialog pre").all_inner_texts()
    assert told == [str(target), f"vgrpo export {folder} --format diffusers --dtype fp32 --iteration 1"]
    assert load_file(target / "pytorch_lora_weights.safetensors")
    assert (target / "README.md").is_file()
    tab.keyboard.press("Escape")
    shutil.rmtree(folder)


def test_a_run_is_steered(tab, server, errors):
    folder = server[0] / "good"
    run = run_id(tab, "good")
    go(tab, server, f"run/{run}/steer", ".told")
    assert "is finished" in tab.inner_text(".told")
    assert tab.get_by_text("Checkpoint now").is_disabled()
    (folder / "finished").rename(folder / "kept")
    (folder / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    go(tab, server, "", ".run-line")
    go(tab, server, f"run/{run}/steer", ".panel")
    slow = Slow(tab, "/steering")
    (folder / "steering.jsonl").write_text(json.dumps({"iteration": 20, "command": "sample"}) + "\n")  # asks the page to look
    slow.wait(tab)
    tab.get_by_text("Checkpoint now").click()
    tab.wait_for_selector(".asked .waiting")
    slow.let_go()  # the answer is of before the request, and does not hide it
    tab.unroute_all()
    tab.wait_for_timeout(200)
    assert tab.locator(".asked .waiting").count() == 1
    ((name, request),) = pending(folder)
    assert request.command == "checkpoint"
    answer(folder, name, Answer(text="saved it", iteration=60, done=True))
    tab.wait_for_selector(".asked .done")
    assert "saved it, after iteration 60" in tab.inner_text(".asked")
    tab.get_by_label("Learning rate").fill("1e-4")
    tab.get_by_label("Why").fill("it oscillates")
    tab.get_by_role("button", name="Change").click()
    tab.wait_for_selector(".asked .waiting")
    assert "lr 1.0e-4 (it oscillates)" in tab.inner_text(".asked .waiting")
    tab.get_by_text("Take back").click()
    tab.wait_for_selector(".asked .withdrawn")
    tab.get_by_text("Stop…").click()
    tab.get_by_text("Let it go on").click()
    assert list(pending(folder)) == []
    (folder / ".lock").write_text("")
    (folder / "kept").rename(folder / "finished")


def test_a_report_opens_without_a_server(session, server):
    """From a file, offline, with the same views, and with nothing on the console."""
    told, path = [], write_report(server[0] / "hacked")
    context = session.new_context(viewport=WIDE, offline=True, reduced_motion="reduce")
    page = context.new_page()
    page.on("console", lambda line: told.append(line.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else told.append(asked.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".cards .cell")
    assert page.locator(".tabs a").all_inner_texts()[:3] == ["Pictures", "Groups", "Curves"]
    assert "Steer" not in page.inner_text(".tabs")
    page.locator(".cell").first.click()
    page.wait_for_selector("dialog img.after")
    assert page.evaluate("document.querySelector('dialog img.after').naturalWidth") == 64
    assert "vgrpo sample" not in page.inner_text("dialog")
    assert "null" not in page.inner_text("dialog")
    page.keyboard.press("Escape")
    for key, selector in enumerate((".cell", ".member", ".chart canvas", ".finding canvas", ".chart canvas", "td code"), 1):
        page.keyboard.press(str(key))
        page.wait_for_selector(selector)
        assert "null" not in page.inner_text("main")
        for size in (NARROW, WIDE):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.keyboard.press("3")
    page.wait_for_selector(".chart h3:text-is('Diversity')")
    page.keyboard.press("4")
    look_at_the_highest(page, server[0] / "hacked")
    page.goto(f"{path.as_uri()}#/run/report/groups")
    page.fill("input[type=search]", "nobody")
    page.wait_for_selector("text=No group has these words")
    context.close()
    assert told == []


def look_at_the_highest(page, folder):
    """A finding's images are those of the newest groups that earned most, and lead to them among their groups."""
    newest = sorted((folder / "groups").glob("*.json"))[-2:]  # of two groups each
    rewards = [r for path in newest for group in json.loads(path.read_text())["groups"] for r in group["reward"]]
    page.wait_for_function("() => document.querySelectorAll('.finding .highest .cell').length === 8")  # drawn anew on news
    page.locator(".finding .highest").click()
    page.wait_for_selector(".member.marked")
    assert page.inner_text(".tabs [aria-current]") == "Groups"
    shown = [float(text) for text in page.locator(".member.marked .num").all_text_contents()]
    assert sorted(shown, reverse=True) == pytest.approx(sorted(rewards, reverse=True)[:8], abs=6e-4)


def test_groups_from_the_one_on_that_is_to_be_looked_at(tab, server):
    go(tab, server, f"run/{run_id(tab, 'good')}/groups/51.1.3", ".member.marked")
    assert "iteration 52 " in tab.locator(".group").first.inner_text()
    assert tab.locator(".group").nth(1).locator(".member").nth(3).get_attribute("class") == "member bare marked"
    assert tab.locator(".member.marked").count() == 1


def test_what_the_numbers_say(tab, server):
    go(tab, server, f"run/{run_id(tab, 'hacked')}/diagnosis", ".finding canvas")
    assert "likely reward hacking" in tab.inner_text(".finding h2")
    look_at_the_highest(tab, server[0] / "hacked")
    go(tab, server, f"run/{run_id(tab, 'good')}/diagnosis", ".empty")
    assert "Nothing is wrong that a rule knows of" in tab.inner_text("main")


def test_several_runs_and_where_their_settings_differ(tab, server):
    go(tab, server, "", ".run-line")
    for name in ("good", "hacked"):
        tab.get_by_label(f"Choose {name}").check()
    tab.get_by_text("Compare 2 runs").click()
    tab.wait_for_selector(".chart canvas")
    assert tab.locator(".chart .legend").first.locator("span").count() == 2
    assert tab.locator("td:first-child").all_inner_texts() == ["num_iterations", "update.lr"]


def test_keys_theme_and_settings(tab, server):
    run = run_id(tab, "good")
    go(tab, server, f"run/{run}/pictures", ".cell")
    tab.keyboard.press("6")
    tab.wait_for_selector("text=Held-out scores")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(colour)
    tab.keyboard.press("t")
    assert tab.evaluate(colour) != before
    tab.keyboard.press("t")
    tab.keyboard.press("?")
    assert "the list of runs" in tab.inner_text("dialog")
    tab.keyboard.press("Escape")
    tab.keyboard.press("g")
    tab.wait_for_selector(".run-line")


def test_a_blind_comparison(tab, server):
    folder, _ = server
    run = run_id(tab, "good")
    go(tab, server, f"blind/{run}/000000/{run}/000060", ".duel img")
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown"):
        told = tab.inner_text(".under-duel .soft")
        tab.keyboard.press(key)
        tab.wait_for_function("(text) => document.querySelector('.under-duel .soft').innerText !== text", arg=told)
    tab.get_by_text("Show the result").click()
    tab.wait_for_selector(".verdict")
    assert "of 3 pairs, 95% interval" in tab.inner_text(".verdict")
    with tab.expect_download():
        tab.get_by_text("Export as preference pairs").click()
    lines = [json.loads(line) for line in (folder / "comparisons.jsonl").read_text().splitlines()]
    assert [line["winner"] for line in lines].count("tie") == 1


def test_a_pair_is_shown_once_its_pictures_are_there(tab, server):
    """So that nothing moves away from under a click."""
    run = run_id(tab, "hacked")
    slow = Slow(tab, "/right")
    tab.goto(f"{server[1]}/#/blind/{run}/000000/{run}/000080")
    slow.wait(tab)
    assert tab.locator(".duel").count() == 0
    slow.let_go()
    tab.wait_for_selector(".duel img")
    assert tab.evaluate("[...document.querySelectorAll('.duel img')].every((one) => one.complete && one.clientHeight > 50)")


def test_a_run_that_goes_on_is_shown_live(tab, server):
    folder = server[0] / "good"
    go(tab, server, f"run/{run_id(tab, 'good')}/curves", ".chart canvas")
    tab.wait_for_selector("#live.on")
    assert "60 / 60" in tab.inner_text(".tiles")
    time.sleep(0.3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": 60, "reward/mean": 0.9}) + "\n")
    tab.wait_for_function("() => document.querySelector('.tiles').innerText.includes('61 / 60')")
    tab.wait_for_function("() => document.querySelector('.legend').innerText.includes('0.9')")


def test_a_hostile_run_is_text_and_nothing_more(tab, server, errors):
    folder = make_run(server[0] / "evil", iterations=12, sets=2, prompts=2, groups=1)
    (folder / "config.yaml").write_text(f"model: '{EVIL.replace(chr(39), chr(34))}'\n'{'<b>'}': 1\n")
    for part in ("000000", "000012"):
        (folder / "samples" / part / "prompts.txt").write_text(f"{EVIL}\n{EVIL}\n")
    (folder / "samples/000012/01.png").write_text(EVIL)
    entry = folder / "groups/000011.json"
    entry.write_text(entry.read_text().replace("thing number", EVIL.replace('"', "'")))
    lines = [{"iteration": i, "reward/mean": 0.1 * i, f"monitor/{EVIL}": 1.0} for i in range(12)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = run_id(tab, "evil")
    for view, selector in (("pictures", ".cell"), ("groups", ".group"), ("curves", ".chart canvas"), ("settings", "td code")):
        go(tab, server, f"run/{run}/{view}", selector)
        assert "hacked" not in tab.title()
        assert tab.locator("main script, main img[src=x]").count() == 0
    go(tab, server, f"blind/{run}/000000/{run}/000012", ".under-duel")
    errors[:] = [text for text in errors if "404" not in text]  # of the picture that is none
    shutil.rmtree(folder)


def test_what_is_gone_is_said(tab, server, errors):
    go(tab, server, "run/0123456789abcdef/pictures", ".error")
    assert "there is no such run" in tab.inner_text(".error")
    errors[:] = [text for text in errors if "404" not in text]  # the browser's own note of the answer


VIEWS = {  # of a run: what is there once all is, and the answer that is held back to see what is shown meanwhile
    "": (".run-line", "/api/runs"),
    "run/{run}/pictures": (".cell", "/samples/000080"),
    "run/{run}/groups": (".group", "/groups?"),
    "run/{run}/curves": (".chart canvas", "/held-out"),
    "run/{run}/diagnosis": (".finding canvas", "/diagnosis"),
    "run/{run}/checkpoints": (".chart canvas", "/held-out"),
    "run/{run}/settings": ("td", "/metrics"),
    "run/{run}/steer": (".told", "/steering"),
    "curves/{run}": (".chart canvas", "/held-out"),
    "blind/{run}/000000/{run}/000080": (".duel img", "/api/duels"),
}


def test_something_is_shown_while_an_answer_is_slow(tab, server):
    run = run_id(tab, "hacked")
    for view, (selector, path) in VIEWS.items():
        go(tab, server, f"run/{run}/pictures" if "pictures" not in view else f"run/{run}/groups", ".cell")
        slow = Slow(tab, path)
        tab.goto(f"{server[1]}/#/{view.format(run=run)}")
        slow.wait(tab)
        tab.wait_for_selector("main .loading, main [aria-busy] .bone")
        assert tab.locator(f"main {selector}").count() == 0, view
        slow.let_go()
        tab.wait_for_selector(selector)
        assert tab.locator("main .loading, main .bone").count() == 0, view
        tab.unroute_all()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility_and_width(tab, server, theme):
    """axe-core finds no violation in any view, and a narrow window does not scroll sideways."""
    from axe_playwright_python.sync_playwright import Axe

    axe, run = Axe(), run_id(tab, "hacked")
    tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    for view, (selector, _) in VIEWS.items():
        go(tab, server, view.format(run=run), selector)
        found = axe.run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}).response["violations"]
        told = [(view, each["id"], node["html"][:200], node["failureSummary"]) for each in found for node in each["nodes"]]
        assert told == []
        tab.set_viewport_size(NARROW)
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], view
        tab.set_viewport_size(WIDE)
