// A run's settings, and where those of several differ.
import { h, number, signed } from "./dom.js";
import { history } from "./steer.js";

export function settingsTab(place, page) {
  const held = scores(page.run.evaluation);
  const steered = page.run.steered.length ? [h("h2", { class: "section" }, "Steered"), history(page.run.steered)] : [];
  place.replaceChildren(...(held ? [held] : []), ...steered, h("h2", { class: "section" }, "Settings"),
    h("p", { class: "soft small" }, `${page.run.folder}/config.yaml repeats the run: `, h("code", {}, `vgrpo train ${page.run.folder}/config.yaml --output-dir NEW`)),
    table([page.run], Object.keys(page.run.settings)));
  return { changed: (parts, now) => (parts.includes("scores") || parts.includes("settings")) && settingsTab(place, now) };
}

function scores(evaluation) {
  const [base, tuned] = [evaluation.base, evaluation.tuned];
  if (!base) return null;
  const metrics = ["strict", "reward"].filter((name) => name === "reward" || typeof base[name] === "number");
  const lines = [...Object.keys(base.by_category ?? {}).map((tag) => [tag, base.by_category[tag], tuned?.by_category?.[tag]]), ["all", base, tuned]];
  const heads = ["category", ...metrics.flatMap((name) => [`${name} before`, "after", "change"])];
  const interval = (part, metric) => part?.interval?.[metric]?.low === undefined ? "" : ` (${number(part.interval[metric].low)} to ${number(part.interval[metric].high)})`;
  const intervals = metrics.map((name) => [interval(base, name), interval(tuned, name)].some(Boolean) ? ` ${name}: before${interval(base, name)}, after${interval(tuned, name)}.` : "");
  const best = evaluation.best ? `Best of the evaluations on the way: iteration ${number(evaluation.best.iteration)}, reward ${number(evaluation.best.reward)}${interval(evaluation.best, "reward")}.` : null;
  return h("section", {}, h("h2", { class: "section" }, "Held-out scores"),
    h("p", { class: "soft small" }, `Of ${number(evaluation.num_images)} images of ${number(evaluation.num_prompts)} prompts that are not trained on, from the same noise before and after.`, intervals.some(Boolean) ? [" 95% intervals of", intervals] : "", best ? ` ${best}` : ""),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Held-out scores" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { class: i ? "num" : "" }, name)))),
      h("tbody", {}, lines.map(([tag, old, now]) => h("tr", {}, h("td", {}, tag), metrics.map((metric) => change(old?.[metric], now?.[metric]))))))));
}

function change(a, b) {
  const known = typeof a === "number" && typeof b === "number";
  return [h("td", { class: "num" }, number(a)), h("td", { class: "num" }, number(b)), h("td", { class: `num ${known && b > a ? "good" : known && b < a ? "bad" : ""}` }, known ? signed(b - a) : "")];
}

export function differences(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))].filter((name) => name !== "output_dir");
  return names.filter((name) => new Set(runs.map((run) => run.settings[name])).size > 1).sort();
}

export function table(runs, names) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Settings" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "setting"), runs.map((run) => h("th", {}, run.name)))),
    h("tbody", {}, names.map((name) => h("tr", {}, h("td", {}, h("code", {}, name)), runs.map((run) => h("td", {}, h("code", {}, run.settings[name] || "–"))))))));
}
