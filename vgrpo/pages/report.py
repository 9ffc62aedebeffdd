"""report.html: the curves and the pictures of a run in one file that opens offline."""

import html
import json
from pathlib import Path
from typing import Any

from vgrpo.pages.page import image_element, write_page

CURVES = {
    "reward/mean": "reward, mean over the images of an iteration",
    "grad_norm": "gradient norm",
    "surrogate/cv_within": "variation of the surrogate inside groups",
    "reward/zero_std_groups": "share of groups without signal",
}


def write_report(folder: Path) -> Path:
    """Write report.html from what lies in a run's folder; returns its path. Raises FileNotFoundError if that is no run."""
    metrics_file, config_file = folder / "metrics.jsonl", folder / "config.yaml"
    for file in (metrics_file, config_file):
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is not a run's folder: it holds no {file.name}")
    metrics = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    evaluation = json.loads((folder / "eval.json").read_text()) if (folder / "eval.json").is_file() else {}
    body = [
        f"<h1>{html.escape(folder.resolve().name)}</h1><p class=lead>V-GRPO, {len(metrics)} iterations</p>",
        _tiles(metrics, evaluation),
        _scores(evaluation),
        "<h2>Curves</h2><div class=curves>",
        *(_curve(title, [line[name] for line in metrics if name in line]) for name, title in _curves(metrics).items()),
        "</div>",
        _pictures(folder),
        f"<h2>Settings</h2><pre>{html.escape(config_file.read_text())}</pre>",
    ]
    return write_page(folder / "report.html", "vgrpo report", body)


def _curves(metrics: list[dict[str, float]]) -> dict[str, str]:
    """Names and titles of the metrics to plot, those of monitors among them."""
    monitors = dict.fromkeys(name for line in metrics for name in line if name.startswith("monitor/"))
    watched = {name: f"{name.removeprefix('monitor/')}, watched and not trained on" for name in monitors}
    return CURVES | watched if metrics else {}


def _tiles(metrics: list[dict[str, float]], evaluation: dict[str, Any]) -> str:
    tiles = []
    if "tuned" in evaluation:
        metric = "reward" if evaluation["tuned"]["strict"] is None else "strict"
        before, after = evaluation["base"][metric], evaluation["tuned"][metric]
        tiles.append((f"{before:.3f} → {after:.3f}", f"held-out {metric} score"))
    if metrics:
        seconds = sum(line["seconds/total"] for line in metrics)
        tiles += [
            (f"{seconds / 60:.1f} min", "training"),
            (f"{sum(line['images_per_second'] * line['seconds/total'] for line in metrics):,.0f}", "images judged"),
            (f"{seconds / len(metrics):.2f} s", "per iteration"),
        ]
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{b}</b><span>{s}</span></div>" for b, s in tiles) + "</div>"


def _scores(evaluation: dict[str, Any]) -> str:
    if "tuned" not in evaluation:
        return ""
    base, tuned = evaluation["base"], evaluation["tuned"]
    rows = [(name, base["by_category"][name], tuned["by_category"][name]) for name in base["by_category"]]
    rows.append(("all", base, tuned))
    metrics = ["reward"] if base["strict"] is None else ["strict", "reward"]
    head = "".join(f"<th>{m} before<th>after<th>change" for m in metrics)
    lines = []
    for name, before, after in rows:
        cells = []
        for m in metrics:
            change = after[m] - before[m]
            cells.append(f"<td>{before[m]:.3f}<td>{after[m]:.3f}<td class={'up' if change >= 0 else 'down'}>{change:+.3f}")
        lines.append(f"<tr><td>{html.escape(name)}{''.join(cells)}")
    count = f"{evaluation['num_prompts']} prompts, {evaluation['num_images']} images, the same noise before and after"
    return f"<h2>Held-out scores</h2><p class=lead>{count}</p><table><tr><th>{head}{''.join(lines)}</table>"


def _curve(title: str, values: list[float], width: int = 500, height: int = 190) -> str:
    """A line chart as SVG: the values in grey, their moving average on top."""
    left, bottom, top = 52, 24, 10
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def points(series: list[float]) -> str:
        step = (width - left - 8) / max(1, len(series) - 1)
        return " ".join(
            f"{left + i * step:.1f},{height - bottom - (v - low) / span * (height - bottom - top):.1f}"
            for i, v in enumerate(series)
        )

    smooth, average = values[0], []
    for value in values:
        smooth = 0.85 * smooth + 0.15 * value
        average.append(smooth)
    ticks = [(low + f * span, height - bottom - f * (height - bottom - top)) for f in (0.0, 0.5, 1.0)]
    labels = "".join(
        f"<text x={left - 6} y={y + 4:.0f} text-anchor=end>{value:.3g}</text>"
        f"<line x1={left} x2={width} y1={y:.0f} y2={y:.0f} stroke='#e3e5ee'/>"
        for value, y in ticks
    )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption><svg width={width} height={height} font-size=11 fill='#667'>"
        f"{labels}<text x={width - 8} y={height - 6} text-anchor=end>iteration {len(values)}</text>"
        f"<polyline points='{points(values)}' fill=none stroke='#b9c0d6' />"
        f"<polyline points='{points(average)}' fill=none stroke='#3355cc' stroke-width=2.2 /></svg></figure>"
    )


def _pictures(folder: Path) -> str:
    """Strips of the first and the last samples, prompt by prompt."""
    sets = sorted(path for path in (folder / "samples").glob("*") if path.is_dir())
    if not sets:
        return ""
    prompts = (sets[0] / "prompts.txt").read_text().removesuffix("\n").split("\n")
    lead = "Left the base model, right the tuned one, from the same noise."
    rows = [f"<h2>Before and after</h2><p class=lead>{lead}</p><div class=pairs>"]
    for index, prompt in enumerate(prompts):
        rows.append(f"<p>{html.escape(prompt)}</p>")
        for part in (sets[0], sets[-1]):
            rows.append(image_element((part / f"{index:02d}.png").read_bytes(), prompt))
    return "".join(rows) + "</div>"
