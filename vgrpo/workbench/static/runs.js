// The list of runs.
import { get, watch } from "./api.js";
import { ago, duration, empty, h, number, show, signed, svg } from "./dom.js";

export async function runsPage(still) {
  document.title = "vgrpo · runs";
  show(h("div", { class: "runs", "aria-busy": "true" }, [1, 2, 3].map(() => h("div", { class: "bone card", style: { height: "64px" } }))));
  const chosen = new Set();
  let words = "";
  let found = await get("/api/runs");
  if (!still()) return undefined;

  const list = h("div", { class: "runs" });
  const overlay = h("button", { class: "main", type: "button", disabled: true, onclick: () => (location.hash = `#/curves/${[...chosen].join(",")}`) });
  const search = h("input", { type: "search", placeholder: "Search runs", "aria-label": "Search runs", oninput: (event) => { words = event.target.value.toLowerCase(); draw(); } });

  function draw() {
    const runs = found.runs.filter((run) => `${run.name} ${run.algorithm} ${run.model}`.toLowerCase().includes(words));
    const focus = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    overlay.textContent = chosen.size ? `Compare ${chosen.size} run${chosen.size > 1 ? "s" : ""}` : "Compare runs";
    overlay.disabled = chosen.size === 0;
    list.replaceChildren(...(runs.length ? runs.map((run) => line(run, chosen, draw))
      : [found.runs.length ? empty("No run has this name", "Search for another.") : empty("No runs yet", `Under ${found.folder} there is no folder with config.yaml and metrics.jsonl. Start one with: vgrpo train sprites`)]));
    if (focus) list.querySelector(`[data-key="${focus}"]`)?.focus({ preventScroll: true });
  }

  draw();
  show(h("div", { class: "row" }, h("h1", { class: "grow" }, "Runs"), h("div", {}, search), overlay),
    h("p", { class: "soft small" }, found.folder), list);
  watch(found.runs.filter((run) => run.state === "running").slice(0, 12).map((run) => run.id), refresh);
  const timer = setInterval(refresh, 15000);
  async function refresh() {
    try { found = await get("/api/runs"); } catch { return; }
    if (still() && !list.matches(":active")) draw(); // a line must not go from under a click
  }
  return () => clearInterval(timer);
}

function line(run, chosen, draw) {
  const score = run.held_out;
  const done = run.planned ? Math.min(1, run.iterations / run.planned) : 0;
  return h("div", { class: "card run-line" },
    h("input", { type: "checkbox", "data-key": `choose ${run.id}`, "aria-label": `Choose ${run.name}`, checked: chosen.has(run.id),
      onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](run.id); draw(); } }),
    h("div", {}, h("a", { class: "title", "data-key": `open ${run.id}`, href: `#/run/${run.id}/pictures` }, run.name),
      h("div", { class: "soft small" }, [run.algorithm, run.model, run.rewards.join(" + ")].filter(Boolean).join(" · "))),
    h("div", {}, state(run.state)),
    h("div", { class: "wide" }, h("span", { class: "num" }, `${run.iterations}${run.planned ? ` / ${run.planned}` : ""}`),
      h("div", { class: "progress" }, h("i", { style: { width: `${done * 100}%` } }))),
    h("div", { class: "wide" }, h("span", { class: "num" }, number(run.reward)), h("div", { class: "soft tiny" },
      score.tuned !== null && score.base !== null ? `held-out ${signed(score.tuned - score.base)}` : "reward")),
    spark(run.spark), h("div", { class: "wide soft small" }, ago(run.changed), h("div", { class: "tiny" }, duration(run.seconds))));
}

export function state(name) {
  return h("span", { class: `pill ${name}` }, { running: "● running", stopped: "■ stopped", finished: "✓ finished" }[name] ?? name);
}

function spark(values) {
  const picture = svg("svg", { viewBox: "0 0 150 32", preserveAspectRatio: "none", role: "img", "aria-label": "reward so far" });
  if (values.length < 2) return picture;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, i) => `${(i / (values.length - 1)) * 146 + 2},${28 - ((value - low) / (high - low || 1)) * 24}`);
  const line = svg("polyline", { points: points.join(" "), fill: "none", "stroke-width": "1.8", "vector-effect": "non-scaling-stroke" });
  line.style.stroke = "var(--s1)";
  picture.append(line);
  return picture;
}
