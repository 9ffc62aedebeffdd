// A run: its head, its tabs, and what changes while it goes on.
import { bound, get, Metrics, watch } from "./api.js";
import { checkpointsTab } from "./checkpoints.js";
import { curvesTab } from "./curves.js";
import { findingsTab } from "./findings.js";
import { duration, h, loading, number, show, signed } from "./dom.js";
import { groupsTab } from "./groups.js";
import { picturesTab } from "./pictures.js";
import { settingsTab } from "./settings.js";
import { state } from "./runs.js";
import { steerTab } from "./steer.js";

export const TABS = [
  ["pictures", "Pictures", picturesTab], ["groups", "Groups", groupsTab], ["curves", "Curves", curvesTab],
  ["diagnosis", "Diagnosis", findingsTab], ["checkpoints", "Checkpoints", checkpointsTab], ["settings", "Scores and settings", settingsTab],
  ["steer", "Steer", steerTab],
].filter(([key]) => !(bound && key === "steer"));

const UNNUMBERED = ["pictures", "groups"]; // are shown before the run's numbers are there

export async function runPage(id, tab = "pictures", still = () => true, marked = "") {
  const tabbed = Boolean(document.activeElement?.closest(".tabs")); // it goes with the page that was shown before
  show(h("div", { "aria-busy": "true" }, h("div", { class: "bone", style: { height: "32px", width: "240px" } }),
    h("div", { class: "tiles" }, [1, 2, 3, 4, 5].map(() => h("div", { class: "bone tile card", style: { height: "64px" } })))));
  const waiting = get(`/api/runs/${id}/diagnosis`); // the pictures need not wait for it
  waiting.catch(() => {});
  const metrics = new Metrics(id);
  const numbers = metrics.more(); // nor for these
  numbers.catch(() => {});
  const run = await get(`/api/runs/${id}`);
  if (!UNNUMBERED.includes(tab)) await numbers;
  if (!still()) return undefined;
  document.title = `vgrpo · ${run.name}`;
  document.getElementById("where").textContent = `/ ${run.name}`;
  const page = { run, metrics, diagnosis: null, waiting, still, marked };
  const [name, , open] = TABS.find(([key]) => key === tab) ?? TABS[0];
  const top = h("div", {});
  const links = TABS.map(([key, text]) => h("a", { href: `#/run/${id}/${key}`, "aria-current": key === name ? "page" : undefined }, text));
  const nav = h("nav", { class: "tabs", "aria-label": "Views of this run" }, links);
  const content = h("section", { "aria-label": name }, loading());

  function head() {
    const count = page.diagnosis?.findings.filter((finding) => finding.level !== "note").length;
    top.replaceChildren(
      h("div", { class: "row" }, h("h1", {}, page.run.name), state(page.run.state)),
      h("p", { class: "soft small" }, [page.run.algorithm, page.run.model, page.run.rewards.join(" + ")].filter(Boolean).join(" · ")),
      ...page.run.notes.map((note) => h("p", { class: "error small" }, `Not all is shown. ${note}`)),
      tiles(page),
    );
    // The links stay while the numbers go on: a keyboard keeps its place.
    TABS.forEach(([key, text], place) => links[place].replaceChildren(text,
      ...(key === "diagnosis" && count ? [h("span", { class: "count", "aria-label": `${count} findings` }, String(count))] : [])));
  }

  head();
  show(top, nav, content);
  const current = nav.querySelector("[aria-current]");
  current.scrollIntoView({ block: "nearest", inline: "center" });
  if (tabbed) current.focus({ preventScroll: true });
  waiting.then((found) => {
    page.diagnosis ??= found;
    if (still()) head();
  }).catch(() => {});
  numbers.then(() => still() && head()).catch(() => {});
  const tools = (await open(content, page)) ?? {};
  watch([id], async ({ parts }) => {
    try {
      if (parts.includes("metrics")) await metrics.more();
      [page.run, page.diagnosis] = await Promise.all([get(`/api/runs/${id}`), get(`/api/runs/${id}/diagnosis`)]);
    } catch { return; }
    if (!still()) return;
    head();
    tools.changed?.(parts, page);
  });
  return tools.leave;
}

function tiles({ run, metrics }) {
  const rewards = (metrics.columns["reward/mean"] ?? []).filter((value) => value !== null);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const change = rewards.length > 1 ? mean(rewards.slice(-5)) - mean(rewards.slice(0, 5)) : null;
  const rates = (metrics.columns.images_per_second ?? []).filter((value) => value !== null);
  const left = run.planned && metrics.rows ? ((run.planned - metrics.rows) * run.seconds) / metrics.rows : 0;
  const held = run.held_out;
  return h("div", { class: "tiles" },
    tile(`${run.iterations}${run.planned ? ` / ${run.planned}` : ""}`, run.state === "running" && left > 0 ? `iterations, ${duration(left)} left` : "iterations"),
    tile(number(rewards.at(-1)), change === null ? "reward" : ["reward, ", h("span", { class: change >= 0 ? "good" : "bad" }, signed(change)), " since the start"]),
    tile([number(held.base), h("span", { class: "arrow" }, " → "), number(held.tuned)], `held-out ${held.metric} score`),
    tile(duration(run.seconds), "training"),
    tile(number(rates.at(-1)), "images per second"));
}

function tile(value, text) {
  return h("div", { class: "card tile" }, h("b", {}, value), h("span", { class: "soft small" }, text));
}
