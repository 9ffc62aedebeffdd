// What the pictures of each checkpoint score on held-out prompts, where a person picks one and exports it.
import { bound, get, post } from "./api.js";
import { chart } from "./chart.js";
import { choice, copied, dialog, empty, fill, h, number, signed } from "./dom.js";
import { heldOutPanels } from "./panels.js";

const FORMATS = [["diffusers", "diffusers"], ["comfyui", "ComfyUI"], ["kohya", "kohya"], ["peft", "peft"]];
const DTYPES = [["fp32", "fp32"], ["bf16", "bf16"], ["fp16", "fp16"]];

export async function checkpointsTab(place, page) {
  let charts = [];
  const leave = () => { charts.forEach((each) => each.destroy()); charts = []; };

  async function draw() {
    const found = await get(`/api/runs/${page.run.id}/held-out`);
    if (!page.still()) return;
    leave();
    const rows = [...new Set([...found.iterations, ...found.kept])].sort((a, b) => a - b);
    if (!rows.length) return place.replaceChildren(empty("No checkpoints yet", "The first one is saved before the first iteration."));
    const area = h("div", { class: "charts" });
    fill(place,
      h("p", { class: "soft small intro" }, found.iterations.length ? `Means over ${found.num_images} sample pictures of ${found.num_prompts} prompts, the same prompts and noise at every checkpoint. The band is the 95% interval of the mean over prompts; ` : "No checkpoint has scores. ",
        "the evaluation of the run's start and end, on more prompts, is under Scores and settings."),
      area, h("h2", { class: "section" }, "Checkpoints"), table(found, rows), bound ? null : newest(found));
    charts = found.iterations.length ? heldOutPanels([{ run: page.run, heldOut: found }]).map((panel) => chart(panel)) : [];
    area.append(...charts.map((each) => each.element));
    charts.forEach((each) => each.draw());
    return undefined;
  }

  function table(found, rows) {
    const names = ["reward", ...Object.keys(found.columns).filter((name) => name === "strict" || name.startsWith("monitor/"))].filter((name) => found.columns[name]);
    const at = (name, iteration) => found.columns[name]?.[found.iterations.indexOf(iteration)] ?? null;
    const rewards = (found.columns.reward ?? []).filter((value) => value !== null);
    const best = rewards.length > 1 ? Math.max(...rewards) : null;
    const heads = ["iteration", ...names.map((name) => name.replace("monitor/", "")), "reward since the start", bound ? null : "weights"].filter(Boolean);
    const first = at("reward", found.iterations[0]);
    return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Checkpoints" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { class: i === heads.length - 1 && !bound ? "" : "num" }, name)))),
      h("tbody", {}, rows.toReversed().map((iteration) => {
        const now = at("reward", iteration);
        return h("tr", {}, h("td", { class: "num" }, String(iteration)), names.map((name) => h("td", { class: "num" }, number(at(name, iteration)), name === "reward" && now !== null && now === best ? h("span", { class: "pill best" }, "★ best") : null)),
          h("td", { class: `num ${now > first ? "good" : now < first ? "bad" : ""}` }, now === null || first === null ? "" : signed(now - first)),
          bound ? null : h("td", {}, found.trained === "lora" && found.newest && found.kept.includes(iteration) ? h("button", { type: "button", "aria-label": `Export iteration ${iteration}`, onclick: () => exporting(page, iteration) }, "Export…")
            : h("span", { class: "soft small" }, iteration ? "not kept" : "the base model")));
      }))));
  }

  function newest(found) {
    if (found.trained !== "lora") return h("p", { class: "soft small section" }, "All weights were trained: pipeline/ in the run's folder is what diffusers loads.");
    if (!found.newest) return h("p", { class: "soft small section" }, "lora/ comes with the first checkpoint.");
    return h("div", { class: "row section" }, h("button", { type: "button", class: "main", onclick: () => exporting(page, null) }, "Export the newest weights…"),
      h("span", { class: "soft small" }, "--keep-checkpoints says how many checkpoints a run keeps."));
  }

  await draw();
  const moved = ["samples", "metrics", "finished"];
  return { changed: (parts, now) => { page = now; if (parts.some((part) => moved.includes(part))) draw().catch(() => {}); }, leave };
}

function exporting(page, iteration) {
  let format = "diffusers";
  let dtype = "fp32";
  const told = h("div", { role: "status", "aria-live": "polite" });
  const button = h("button", { type: "button", class: "main", onclick: () => go() }, "Write the files");
  dialog(iteration === null ? "Export the newest weights" : `Export iteration ${iteration}`,
    h("div", { class: "facts" }, h("div", { class: "row" }, h("span", {}, "For"), choice("Format", FORMATS, format, (value) => { format = value; })),
      h("div", { class: "row" }, h("span", {}, "Numbers"), choice("Numbers", DTYPES, dtype, (value) => { dtype = value; })),
      h("p", { class: "soft small" }, "The adapter and a model card with scores and pictures go into a folder in the run's own."), h("div", {}, button), told));

  async function go() {
    button.disabled = true;
    told.replaceChildren(h("p", { class: "soft" }, "Writing…"));
    try {
      const done = await post(`/api/runs/${page.run.id}/export`, { iteration, format, dtype });
      told.replaceChildren(h("p", {}, "✓ Written to"), h("pre", {}, done.folder), copied("The same on the command line", done.command));
    } catch (error) {
      told.replaceChildren(h("p", { class: "error" }, error.message));
    }
    button.disabled = false;
  }
}
