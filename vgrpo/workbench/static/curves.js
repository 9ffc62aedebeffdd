// All numbers of a run, or of several above one another.
import { get, Metrics, watch } from "./api.js";
import { chart } from "./chart.js";
import { choice, empty, h, loading, show } from "./dom.js";
import { AXES, axis, DEFAULTS, panel, sections } from "./panels.js";
import { differences, table } from "./settings.js";

const options = { ...DEFAULTS };

export async function curvesTab(place, page) {
  const runs = [{ run: page.run, metrics: page.metrics, heldOut: await held(page.run.id) }];
  const board = new Board(place, runs);
  return {
    changed: async (parts) => {
      if (parts.includes("samples")) runs[0].heldOut = await held(page.run.id);
      if (page.still() && (parts.includes("samples") || parts.includes("metrics"))) board.refresh();
    },
    leave: () => board.leave(),
  };
}

// The curves need not fail where it does.
function held(id) {
  return get(`/api/runs/${id}/held-out`).catch(() => null);
}

export async function overlay(names, still) {
  const ids = (names ?? "").split(",").filter(Boolean).slice(0, 12);
  show(loading());
  const runs = await Promise.all(ids.map(async (id) => {
    const [run, metrics, heldOut] = await Promise.all([get(`/api/runs/${id}`), new Metrics(id).more(), held(id)]);
    return { run, metrics, heldOut };
  }));
  if (!still()) return undefined;
  document.title = "vgrpo · curves";
  document.getElementById("where").textContent = `/ ${runs.length} runs`;
  const place = h("div", { class: "section" });
  const changed = differences(runs.map(({ run }) => run));
  const last = (run) => run.sets.at(-1);
  const pair = runs.length === 2 && runs.every(({ run }) => run.sets.length);
  show(h("h1", {}, "Runs side by side"), h("p", { class: "soft small" }, runs.map(({ run }, i) => [i ? " · " : "", h("a", { href: `#/run/${run.id}/pictures` }, run.name)])),
    pair ? h("p", {}, h("a", { href: `#/blind/${runs.map(({ run }) => `${run.id}/${last(run)}`).join("/")}` }, "Compare their pictures blind")) : null, place,
    h("h2", { class: "section" }, "Settings that differ"),
    changed.length ? table(runs.map(({ run }) => run), changed) : h("p", { class: "soft" }, runs.length > 1 ? "None: the runs differ in their folders alone." : "Choose several runs in the list to compare them."));
  const board = new Board(place, runs);
  watch(ids, async ({ run, parts }) => {
    if (!parts.includes("metrics")) return;
    await runs.find((each) => each.run.id === run)?.metrics.more().catch(() => {});
    board.refresh();
  });
  return () => board.leave();
}

class Board {
  constructor(place, runs) {
    this.runs = runs;
    this.charts = [];
    this.area = h("div", {});
    this.seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
      this.seen.unobserve(target);
      this.charts.find((each) => each.element === target)?.draw();
    }), { rootMargin: "300px" });
    place.replaceChildren(this.tools(), this.area);
    this.build();
  }

  tools() {
    const told = h("output", { class: "num" }, String(options.smooth));
    const smooth = h("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: options.smooth, "aria-label": "Smoothing", oninput: () => {
      options.smooth = Number(smooth.value);
      told.textContent = smooth.value;
      this.refresh();
    } });
    const log = h("input", { type: "checkbox", checked: options.log, onchange: () => { options.log = log.checked; this.refresh(); } });
    return h("div", { class: "tools" }, choice("Horizontal axis", AXES, options.x, (value) => { options.x = value; this.refresh(); }),
      h("label", { class: "check" }, "Smoothing", smooth, told), h("label", { class: "check" }, log, "Log scale"),
      h("span", { class: "soft tiny grow" }, "Drag to zoom, double-click to zoom out."));
  }

  build() {
    this.leave();
    const parts = sections(this.runs);
    if (!parts.length) {
      this.area.replaceChildren(empty("No numbers yet", "The first line comes with the first iteration."));
      return;
    }
    this.area.replaceChildren(...parts.map(([title, definitions]) => h("section", {}, h("h2", { class: "section" }, title),
      h("div", { class: "charts" }, definitions.map((definition) => {
        const made = chart(panel(definition, this.runs, options, axis));
        this.charts.push(Object.assign(made, { definition }));
        this.seen.observe(made.element);
        return made.element;
      })))));
    this.count = parts.flatMap(([, definitions]) => definitions).length;
  }

  refresh() {
    const count = sections(this.runs).flatMap(([, definitions]) => definitions).length;
    if (count !== this.count) this.build();
    else this.charts.forEach((each) => each.update(panel(each.definition, this.runs, options, axis)));
  }

  leave() {
    this.charts.forEach((each) => each.destroy());
    this.charts = [];
  }
}
