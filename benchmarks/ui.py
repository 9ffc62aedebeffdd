"""How quick the workbench is: python benchmarks/ui.py

A made run of 2,000 iterations with 20,000 images is opened, from an empty cache and again: seconds of each request, and in
chromium, where there is one, until pictures and curves are seen, and milliseconds of a frame while they are scrolled. Then how
long its report takes, and what a real run on the bundled model spends on writing groups, as a share of its iterations. Prints a
line of JSON for each figure.
"""

import argparse
import dataclasses
import json
import shutil
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

from ui_folder import make_run

TOKEN = "benchmark"
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--sets", type=int, default=100, help="checkpoints with pictures")
    parser.add_argument("--prompts", type=int, default=50, help="of each set, with 4 images each")
    parser.add_argument("--train", type=int, default=4, help="iterations of the real run; 0 leaves it out")
    parser.add_argument("--output", type=Path, help="append the lines to this file, too")
    options = parser.parse_args()
    found = []

    def say(**figures: object) -> None:
        found.append(figures)
        print(json.dumps(figures), flush=True)

    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        count = options.iterations
        make_run(runs / "long", iterations=count, sets=options.sets, prompts=options.prompts, groups=count)
        say(iterations=options.iterations, images=options.sets * options.prompts * 4)
        for kind in ("cold", "warm"):
            with server(runs, Path(place) / "cache") as address:
                say(cache=kind, **requests(address))
        for kind in ("cold", "warm"):
            if kind == "cold":
                shutil.rmtree(Path(place) / "cache")
            with server(runs, Path(place) / "cache") as address:
                say(browser=kind, **seen(address))
        say(**reported(runs / "long"))
        if options.train:
            say(**written(Path(place) / "real", options.train))
    if options.output:
        with options.output.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in found)


@contextmanager
def server(runs: Path, cache: Path):
    """The address of a server over a folder of runs, in a thread."""
    import uvicorn

    from vgrpo.workbench.server import make_app

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        app = make_app(runs, cache, TOKEN, port, leaving=lambda: running.should_exit)
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{port}"
        running.should_exit = True
        thread.join()


def requests(address: str) -> dict[str, float]:
    """Seconds of what the page asks for, one after another."""
    opener = build_opener(HTTPCookieProcessor())
    get = lambda path: opener.open(address + path).read()  # noqa: E731
    get(f"/?token={TOKEN}")
    seconds, begin = {}, time.perf_counter()
    run = json.loads(get("/api/runs"))["runs"][0]["id"]
    seconds["runs"] = time.perf_counter() - begin
    last = json.loads(get(f"/api/runs/{run}"))["sets"][-1]
    for name, path in {
        "run": "",
        "metrics": "/metrics",
        "diagnosis": "/diagnosis",
        "samples": f"/samples/{last}",
        "sheet": f"/samples/{last}/sheet",
        "groups": "/groups",
        "groups again": "/groups?before=100&place=0",
        "groups by word": "/groups?words=42",
    }.items():
        begin = time.perf_counter()
        get(f"/api/runs/{run}{path}")
        seconds[name] = time.perf_counter() - begin
    return {name: round(value, 3) for name, value in seconds.items()}


def seen(address: str) -> dict[str, float | str]:
    """Seconds until a browser shows the run's pictures and its curves."""
    executable = shutil.which("chromium")
    if executable is None:
        return {"skipped": "no chromium"}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address}/?token={TOKEN}")
        page.wait_for_selector(".run-line")
        run = page.evaluate("fetch('/api/runs').then((answer) => answer.json())")["runs"][0]["id"]
        seconds = {}
        for view, selector in {"pictures": ".cell", "curves": ".chart canvas", "groups": ".group"}.items():
            begin = time.perf_counter()
            page.goto(f"{address}/#/run/{run}/{view}")
            page.wait_for_selector(selector)
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            seconds[view] = round(time.perf_counter() - begin, 3)
            seconds[f"{view}, ms of a frame"] = scrolled(page)
        page.goto(f"{address}/#/run/{run}/pictures")
        page.wait_for_selector(".cell")
        begin = time.perf_counter()
        before = page.inner_text(".scrub output")
        steps = min(10, int(page.get_attribute(".scrub input", "max")))
        for _ in range(steps):
            page.keyboard.press("ArrowLeft")
            page.wait_for_function("(before) => document.querySelector('.scrub output').innerText !== before", arg=before)
            before = page.inner_text(".scrub output")
        seconds[f"{steps} steps of the slider"] = round(time.perf_counter() - begin, 3)
        browser.close()
    return seconds


SCROLL = """async () => {
  const times = [];
  let last = performance.now();
  for (let step = 0; step < 90; step++) {
    window.scrollBy(0, 60);
    await new Promise((done) => requestAnimationFrame(done));
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  times.sort((a, b) => a - b);
  window.scrollTo(0, 0);
  return [times[45], times[85]];
}"""


def scrolled(page: object) -> str:
    """Milliseconds of a frame while a view is scrolled by 60 pixels a frame: the median, and what 95% stay below."""
    return " / ".join(f"{value:.0f}" for value in page.evaluate(SCROLL))


def reported(run: Path) -> dict[str, float]:
    """Seconds that report.html takes, and its megabytes."""
    from vgrpo.workbench.report import write_report

    begin = time.perf_counter()
    size = write_report(run).stat().st_size
    return {"report, seconds": round(time.perf_counter() - begin, 3), "report, MB": round(size / 1e6, 2)}


def written(folder: Path, iterations: int) -> dict[str, float]:
    """What writing groups takes of a run's iterations."""
    from vgrpo import EvalConfig, train
    from vgrpo.recipes import RECIPES
    from vgrpo.training.record import groups

    spent, write = [], groups.GroupsFile.write

    def timed(self: groups.GroupsFile, event: object) -> None:
        begin = time.perf_counter()
        write(self, event)
        spent.append(time.perf_counter() - begin)

    groups.GroupsFile.write = timed
    try:
        small = EvalConfig(num_prompts=0, num_sample_prompts=1)
        config = dataclasses.replace(RECIPES["sprites"], output_dir=folder, num_iterations=iterations, eval=small)
        train(config, quiet=True)
    finally:
        groups.GroupsFile.write = write
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    total = sum(line["seconds/total"] for line in lines)
    size = sum(path.stat().st_size for path in (folder / "groups").iterdir()) / iterations
    share = sum(spent) / total
    return {
        "seconds per iteration": round(total / iterations, 3),
        "writing groups, share": round(share, 5),
        "bytes": round(size),
    }


if __name__ == "__main__":
    main()
