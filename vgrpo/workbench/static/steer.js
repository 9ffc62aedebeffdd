// Ask a run that goes on for something, and see what became of it.
import { get, post } from "./api.js";
import { ago, dialog, h, number, toast } from "./dom.js";

const ACTS = [
  ["pause", "Pause", "Wait after this iteration; the memory stays taken"], ["resume", "Resume", "Go on after a pause"],
  ["checkpoint", "Checkpoint now", "Save one after this iteration"], ["sample", "Draw samples now", "Draw the sample pictures after this iteration"],
  ["stop", "Stop…", "Save and end after this iteration"],
];
const STATES = { waiting: "○ waits for the end of the iteration", done: "✓ done", refused: "✗ refused", withdrawn: "– taken back" };

export async function steerTab(place, page) {
  const path = `/api/runs/${page.run.id}/steering`;
  let timer = null;
  let given = 0; // numbers of answers, in the order in which the server made them up
  let shown = 0;
  let state = await get(path);
  const note = h("input", { type: "text", id: "why", maxlength: 500, placeholder: "it oscillates" });
  const rate = h("input", { type: "text", id: "rate", inputmode: "decimal", size: 10 });
  const buttons = ACTS.map(([command, text, title]) => h("button", { type: "button", title, onclick: () => (command === "stop" ? confirmed() : ask(command)) }, text));
  const change = h("button", { type: "submit" }, "Change");
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); ask("lr", Number(rate.value.trim() || NaN)); } },
    h("label", { for: "rate" }, "Learning rate"), rate, change, h("span", { class: "soft small" }, "before warm-up and decay; a resumed run keeps it"));
  const why = h("div", {});
  const asked = h("div", { class: "asked", role: "status", "aria-live": "polite" });
  const log = h("div", {});
  place.replaceChildren(why, h("div", { class: "card panel" }, h("div", { class: "row" }, buttons), form,
    h("div", { class: "row" }, h("label", { for: "why" }, "Why"), note, h("span", { class: "soft small" }, "for the run's log, with the next request"))),
  asked, log);

  async function ask(command, value = null) {
    if (command === "lr" && !(value > 0)) return toast("Give a learning rate above 0, such as 1e-4");
    try {
      show(await post(path, { command, value, note: note.value }), ++given);
      note.value = "";
    } catch (error) {
      toast(error.message);
      refresh();
    }
    return undefined;
  }

  function confirmed() {
    const box = dialog("Stop this run?", h("p", {}, "It ends after this iteration, with everything saved. It goes on with"),
      h("pre", {}, `vgrpo train ${page.run.folder}/config.yaml --resume`),
      h("div", { class: "row section" }, h("button", { type: "button", class: "main", onclick: () => { box.close(); ask("stop"); } }, "Stop it"), h("button", { type: "button", onclick: () => box.close() }, "Let it go on")));
  }

  async function back(name) {
    try { show(await post(`${path}/${name}`, {}), ++given); } catch (error) { toast(error.message); refresh(); }
  }

  function show(now, place) {
    if (place < shown) return; // another has overtaken it
    [state, shown] = [now, place];
    clearTimeout(timer);
    if (!page.still()) return;
    why.replaceChildren(...(state.why ? [h("p", { class: "told" }, "This run cannot be steered: ", state.why)] : state.paused ? [h("p", { class: "told" }, "The run pauses. It goes on when it is asked to resume.")] : []));
    [...buttons, change, note, rate].forEach((each) => { each.disabled = Boolean(state.why); });
    buttons[0].disabled ||= state.paused;
    buttons[1].classList.toggle("main", state.paused);
    const known = (page.metrics.columns.lr ?? []).findLast((value) => value !== null);
    rate.placeholder = known ? String(Number(known.toPrecision(3))) : "1e-4";
    asked.replaceChildren(...(state.asked.length ? [h("h2", { class: "section" }, "Asked from this page"), h("ul", {}, state.asked.toReversed().map(line))] : []));
    log.replaceChildren(...(state.log.length ? [h("h2", { class: "section" }, "The run's log"), history(state.log)] : []));
    if (state.asked.some((each) => each.state === "waiting")) timer = setTimeout(refresh, 1000);
  }

  function line(each) {
    return h("li", { class: `card ${each.state}` }, h("b", {}, words(each)), h("span", { class: "grow" }, `${STATES[each.state]}${each.text ? `: ${each.text}` : ""}`),
      h("span", { class: "soft small" }, ago(each.time)), each.state === "waiting" ? h("button", { type: "button", onclick: () => back(each.name) }, "Take back") : null);
  }

  async function refresh() {
    const mine = ++given;
    try { show(await get(path), mine); } catch { timer = setTimeout(refresh, 3000); }
  }

  show(state, given);
  return { changed: (parts, now) => { page = now; refresh(); }, leave: () => clearTimeout(timer) };
}

function words({ command, value, note }) {
  return `${command}${value === null ? "" : ` ${number(value)}`}${note ? ` (${note})` : ""}`;
}

// What was asked of a run, from wherever: a line for each request that was done.
export function history(lines) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What was asked of the run" }, h("table", { class: "scores" },
    h("thead", {}, h("tr", {}, ["after iteration", "request", "why"].map((name, i) => h("th", { class: i ? "" : "num" }, name)))),
    h("tbody", {}, lines.map((each) => h("tr", {}, h("td", { class: "num" }, number(each.iteration)), h("td", {}, `${each.command}${each.value === null ? "" : ` ${number(each.value)}`}`), h("td", {}, each.note || "–"))))));
}
