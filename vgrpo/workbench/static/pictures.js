// Fixed prompts x checkpoints. A set's thumbnails are one sheet, so that the slider changes one address and nothing else.
import { address, bound, get } from "./api.js";
import { look } from "./detail.js";
import { choice, empty, h, loading, number, signed } from "./dom.js";

const PER_PROMPT = 4;
const ORDERS = [["prompt", "As given"], ["gain", "Largest gain"], ["loss", "Largest loss"], ["best", "Best now"], ["worst", "Worst now"]];
const MOST_COLUMNS = 8;
const PIXELS = 64; // of a side, up to which the edges of a picture's pixels are kept

export async function picturesTab(place, page) {
  let sets = page.run.sets;
  if (!sets.length) {
    place.replaceChildren(empty("No pictures yet", "Training draws the first ones before its first iteration."));
    return { changed: (parts) => parts.includes("samples") && location.reload() };
  }
  const album = new Album(page.run.id);
  let at = sets.length - 1;
  let order = "prompt";
  let mode = "one";
  let words = "";
  let playing = null;
  let entry = null;
  let first = null;
  const body = h("div", {}, loading());
  const search = h("input", { type: "search", placeholder: "Search prompts  ( / )", "aria-label": "Search prompts", oninput: () => { words = search.value.toLowerCase(); draw(); } });
  const sort = h("select", { "aria-label": "Order", onchange: () => { order = sort.value; draw(); } }, ORDERS.map(([key, text]) => h("option", { value: key }, text)));
  const slider = h("input", { type: "range", min: 0, max: sets.length - 1, step: 1, "aria-label": "Checkpoint", oninput: () => go(Number(slider.value)) });
  const told = h("output", {});
  const play = h("button", { type: "button", onclick: toggle, "aria-label": "Play" }, "▶");
  const scrub = h("div", { class: "card scrub" }, play, slider, told);
  const ends = () => `#/blind/${page.run.id}/${sets[0]}/${page.run.id}/${sets.at(-1)}`;
  const compare = bound ? null : h("a", { class: "small", href: ends() }, "Compare blind");
  const since = h("select", { id: "since", onchange: async () => { first = await album.entry(since.value); draw(); } }, sets.map(since_));
  place.replaceChildren(h("div", { class: "tools" }, h("div", { class: "search" }, search), sort,
    choice("View", [["one", "One checkpoint"], ["all", "Side by side"]], mode, (value) => { mode = value; draw(); }),
    h("label", { class: "row small", for: "since" }, "changes since", since), compare), body, scrub);

  function since_(set) {
    return h("option", { value: set }, `iteration ${Number(set)}`);
  }

  async function go(index) {
    at = Math.max(0, Math.min(sets.length - 1, index));
    slider.value = at;
    told.textContent = `iteration ${Number(sets[at])}`;
    const wanted = sets[at];
    const found = await album.entry(wanted);
    if (sets[at] !== wanted || !page.still()) return;
    entry = found;
    draw();
    [at + 1, at - 1, at + 2].forEach((near) => sets[near] && album.entry(sets[near]));
  }

  function toggle() {
    clearInterval(playing);
    playing = playing ? null : setInterval(() => go((at + 1) % sets.length), 600);
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "Stop" : "Play");
  }

  function rows() {
    const known = entry.pictures.map((index, row) => {
      const now = mean(entry.reward[row]);
      const before = mean(first.reward[first.pictures.indexOf(index)]);
      return { index, row, text: page.run.prompts[index] ?? "", tag: entry.tags[row] ?? "", now, change: now === null || before === null ? null : now - before };
    }).filter(({ text, tag }) => `${text} ${tag}`.toLowerCase().includes(words));
    const by = { gain: (r) => -(r.change ?? -1e9), loss: (r) => r.change ?? 1e9, best: (r) => -(r.now ?? -1e9), worst: (r) => r.now ?? 1e9 }[order];
    return by ? known.sort((a, b) => by(a) - by(b)) : known;
  }

  function draw() {
    if (!entry) return;
    const kept = rows();
    if (!kept.length) body.replaceChildren(empty("No prompt has these words", "Clear the search to see all."));
    else if (mode === "all") matrix(kept);
    else cards(kept);
    scrub.classList.toggle("hidden", mode === "all");
  }

  function cards(kept) {
    const focus = document.activeElement?.dataset?.cell;
    const grid = h("div", { class: "cards" }, kept.map((row) =>
      h("article", { class: "card prompt" }, h("div", { class: "row small" }, h("div", { class: "text grow" }, row.text),
        h("span", { class: "num", title: "mean reward of the four, and its change since the checkpoint that is chosen above" }, number(row.now), " ",
          row.change ? h("span", { class: row.change > 0 ? "good" : "bad" }, signed(row.change)) : null)),
      h("div", { class: "strip" }, Array.from({ length: PER_PROMPT }, (_, member) => cell(entry, row, member))))));
    album.dress(grid, entry);
    body.replaceChildren(grid);
    if (focus) grid.querySelector(`[data-cell="${focus}"]`)?.focus();
  }

  function cell(from, row, member, set = from.set) {
    const place_ = from.pictures.indexOf(row.index);
    const verdict = from.strict[place_]?.[member];
    const reward = from.reward[place_]?.[member];
    const count = from.pictures.length;
    const button = h("button", { type: "button", class: from.cells[1] <= PIXELS ? "cell hard" : "cell", "data-cell": `${row.index}.${member}`,
      "aria-label": `${row.text}, image ${member + 1}, reward ${number(reward)}${verdict === undefined || verdict === null ? "" : verdict ? ", right" : ", wrong"}`,
      title: `reward ${number(reward)}`,
      onclick: () => look({ page, album, sets, set, index: row.index, member, text: row.text }) },
    );
    button.style.backgroundSize = `${PER_PROMPT * 100}% ${count * 100}%`;
    button.style.backgroundPosition = `${(member / (PER_PROMPT - 1)) * 100}% ${count > 1 ? (place_ / (count - 1)) * 100 : 0}%`;
    const told = verdict === 1 ? h("span", { class: "mark", "aria-hidden": true }, "✓") : verdict === 0 ? h("span", { class: "mark no", "aria-hidden": true }, "✗") : null;
    return h("div", { class: "picture" }, button, h("div", { class: "under num" }, told, number(reward, 2)));
  }

  async function matrix(kept) {
    const shown = spread(sets, MOST_COLUMNS);
    const entries = await Promise.all(shown.map((set) => album.entry(set)));
    if (mode !== "all" || !page.still()) return;
    const head = h("tr", {}, h("th", { class: "text", scope: "col" }, "prompt"), shown.map((set) => h("th", { scope: "col", class: "num" }, String(Number(set)))));
    const lines = kept.map((row) => h("tr", {}, h("th", { class: "text small", scope: "row" }, row.text), entries.map((from) => {
      const box = h("td", {}, from.pictures.includes(row.index) ? cell(from, row, 0) : null);
      album.dress(box, from);
      return box;
    })));
    body.replaceChildren(h("div", { class: "matrix", tabindex: 0, role: "region", "aria-label": "Prompts and checkpoints" }, h("table", {}, h("thead", {}, head), h("tbody", {}, lines))));
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, .choice")) return;
    if (event.key === "ArrowRight") go(at + 1);
    else if (event.key === "ArrowLeft") go(at - 1);
    else if (event.key === " " && !event.target.closest("button")) toggle();
    else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", keys);
  [first] = await Promise.all([album.entry(sets[0]), album.entry(sets[at])]);
  await go(at);
  return {
    leave: () => { clearInterval(playing); document.removeEventListener("keydown", keys); },
    changed: (parts, now) => {
      if (!parts.includes("samples")) return;
      const last = at === sets.length - 1;
      sets = now.run.sets;
      slider.max = sets.length - 1;
      album.forget(sets.at(-1)); // it may have been drawn again
      compare?.setAttribute("href", ends());
      since.replaceChildren(...sets.map(since_));
      since.value = first.set;
      if (last) go(sets.length - 1);
    },
  };
}

// A run's sets of pictures, each asked for once.
export class Album {
  constructor(run) {
    this.run = run;
    this.entries = new Map();
  }

  entry(set) {
    if (!this.entries.has(set)) {
      const wanted = get(`/api/runs/${this.run}/samples/${set}`).then(async (found) => {
        const sheet = new Image();
        sheet.src = address(`/api/runs/${this.run}/samples/${set}/sheet?stamp=${found.stamp}`);
        await sheet.decode().catch(() => {});
        const cells = [sheet.naturalWidth / PER_PROMPT || 1, sheet.naturalHeight / Math.max(1, found.pictures.length) || 1];
        return { ...found, sheet: sheet.src, cells, image: sheet };
      });
      wanted.catch(() => this.entries.delete(set));
      this.entries.set(set, wanted);
    }
    return this.entries.get(set);
  }

  // The address of one picture. A report holds sheets alone, from which it is cut.
  picture(entry, index, member) {
    if (!bound) return `/api/runs/${this.run}/samples/${entry.set}/${index}/${member}?stamp=${entry.stamp}`;
    const [width, height] = entry.cells;
    const canvas = h("canvas", { width, height });
    canvas.getContext("2d").drawImage(entry.image, -member * width, -entry.pictures.indexOf(index) * height);
    return canvas.toDataURL();
  }

  forget(set) {
    this.entries.delete(set);
  }

  dress(element, entry) {
    element.style.setProperty("--sheet", `url("${entry.sheet}")`);
    element.style.setProperty("--shape", `${entry.cells[0]} / ${entry.cells[1]}`);
  }
}

export function mean(values) {
  const known = (values ?? []).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

function spread(items, count) {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, i) => items[Math.round((i * (items.length - 1)) / (count - 1))]);
}
