// What training judged: every image of some groups of each iteration, from best to worst.
import { bound, get } from "./api.js";
import { boxes, seen } from "./boxes.js";
import { dialog, empty, h, loading, number, toast } from "./dom.js";
import { named, thumbnail } from "./thumbnails.js";

const PAGE = 15;

export async function groupsTab(place, page) {
  let words = "";
  let turn = 0;
  const list = h("div", {}, loading());
  const more = h("button", { type: "button", onclick: () => load().catch(failed) }, "Earlier groups");
  const marked = new Set((page.marked ?? "").split(",")); // images to be looked at, from whose iteration on groups are listed
  const newest = Math.max(...[...marked].map((name) => parseInt(name, 10)));
  let last = newest >= 0 ? { iteration: newest + 1, place: 999 } : null;
  let timer = null;
  const search = h("input", { type: "search", placeholder: "Search prompts  ( / )", "aria-label": "Search prompts", oninput: () => {
    words = search.value;
    clearTimeout(timer);
    timer = setTimeout(() => anew().catch(failed), 200);
  } });
  const entries = new Map();
  const fresh = h("button", { type: "button", class: "hidden", onclick: () => anew().catch(failed) }, "New groups are there");
  place.replaceChildren(h("div", { class: "tools" }, h("div", { class: "search" }, search), fresh,
    h("p", { class: "soft small grow" }, "Groups that training kept, from hard to easy prompts of each iteration. Bars are advantages: right and blue is learned, left and orange unlearned.")), list, more);

  function failed(error) {
    more.disabled = false;
    more.textContent = "Earlier groups";
    list.querySelector(".loading")?.remove();
    toast(error.message);
  }

  function anew() {
    entries.clear(); // a resumed run writes some anew
    last = null;
    list.replaceChildren(loading());
    fresh.classList.add("hidden");
    return load();
  }

  async function load() {
    const mine = ++turn;
    more.disabled = true;
    const from = last ? `&before=${last.iteration}&place=${last.place}` : "";
    const ask = () => bound ? within() : get(`/api/runs/${page.run.id}/groups?limit=${PAGE}&words=${encodeURIComponent(words)}${from}`);
    // A report holds all the groups that it has, and nobody searches them for it.
    const within = async () => {
      const found = await get(`/api/runs/${page.run.id}/groups`);
      const wanted = words.toLowerCase().split(/\s+/);
      return { groups: found.groups.filter(({ prompt }) => wanted.every((word) => prompt.toLowerCase().includes(word))), left: 0 };
    };
    let { groups, left } = await ask();
    while (left > 0 && groups.length < PAGE && mine === turn && page.still()) {
      more.textContent = `Reading ${left} earlier iterations…`;
      ({ groups, left } = await ask());
    }
    more.textContent = "Earlier groups";
    if (mine !== turn || !page.still()) return;
    more.disabled = false;
    more.classList.toggle("hidden", bound || groups.length < PAGE);
    const first = list.querySelector(".loading");
    if (!groups.length && first) list.replaceChildren(words ? empty("No group has these words", "Search for others.") : empty("No groups yet", "Runs of this and later versions keep some at every iteration."));
    last = groups.at(-1) ?? last;
    const cards = await Promise.all(groups.map(async (row) => card(row, await entry(row.iteration))));
    if (mine !== turn) return;
    first?.remove();
    list.append(...cards.filter(Boolean));
    if (first) list.querySelector(".marked")?.scrollIntoView({ block: "center" });
  }

  function entry(iteration) {
    if (!entries.has(iteration)) entries.set(iteration, get(`/api/runs/${page.run.id}/groups/${iteration}`));
    return entries.get(iteration);
  }

  function sought(name) {
    return marked.has(name) ? { class: "member bare marked", "aria-current": "true" } : { class: "member bare" };
  }

  function card(row, found) {
    const group = found.groups[row.place];
    if (!group) return null;
    const members = group.members.map((member, column) => h("button", { type: "button", ...sought(named(row.iteration, row.place, column)), onclick: () => one(found, group, row, column),
      "aria-label": `place ${column + 1}, reward ${number(group.reward[column])}, advantage ${number(group.advantage[column])}` },
    thumbnail(page.run.id, found, row.place, column), gain(group.advantage[column]), h("span", { class: "num" }, group.failed[column] ? "failed" : number(group.reward[column]))));
    const flat = row.low !== null && row.high - row.low < 1e-6 * Math.max(1, Math.abs(row.mean));
    return h("article", { class: "card group" }, h("div", { class: "row" }, h("h3", { class: "grow" }, group.prompt), group.tag ? h("span", { class: "pill" }, group.tag) : null,
      flat ? h("span", { class: "pill stopped" }, "no spread: teaches nothing") : null,
      h("span", { class: "soft small" }, `iteration ${row.iteration + 1} · mean ${number(row.mean)} · ${number(row.low)} to ${number(row.high)}`)),
    h("div", { class: "members", tabindex: 0, role: "group", "aria-label": "best to worst" }, members));
  }

  function one(found, group, row, column) {
    const names = found.rewards.length > 1 ? found.rewards : [];
    const lines = [["place", `${column + 1} of ${group.members.length}`], ["reward", number(group.reward[column])], ["advantage", number(group.advantage[column])],
      ...names.map((name, i) => [name, number(group.parts[column]?.[i])]), ["iteration", String(found.iteration + 1)]];
    const seed = page.run.seed ?? 0;
    const large = h("div", { class: "framed" }, thumbnail(page.run.id, found, row.place, column));
    const saw = seen(group.found, column);
    const frames = saw && boxes(saw.list, found.cell[1] / found.cell[0], "whole");
    if (frames) large.append(frames.layer);
    dialog(group.prompt, h("div", { class: "look" }, large, h("div", { class: "facts" }, h("table", {}, h("tbody", {}, lines.map(([name, value]) => h("tr", {}, h("td", { class: "soft" }, name), h("td", { class: "num" }, value))))),
      frames ? h("div", {}, h("h3", {}, `What ${saw.reward} saw`), frames.legend) : null,
      h("div", {}, h("h3", {}, "Seed"), h("pre", {}, `named_noise(policy, ${seed}, "iteration", ${found.iteration}, "noise", ${group.group}, ${group.noise[column] ?? group.members[column]})`),
        h("p", { class: "soft small" }, "The noise of vgrpo.sampling.draw that this image began from, under the weights that the iteration began with. An algorithm that draws by random steps names those apart.")))));
  }

  await load();
  return { changed: (parts) => parts.includes("groups") && fresh.classList.remove("hidden"), leave: () => clearTimeout(timer) };
}

function gain(advantage) {
  const width = Math.min(50, Math.abs(advantage ?? 0) * 20);
  const bar = h("i", { class: advantage < 0 ? "down" : "" });
  bar.style.width = `${width}%`;
  bar.style.left = advantage < 0 ? `${50 - width}%` : "50%";
  return h("span", { class: "gain" }, bar);
}
