// Two checkpoints side by side without their names. The choices are kept beside the runs.
import { get, post } from "./api.js";
import { empty, h, loading, number, show, toast } from "./dom.js";

export async function blind([first, firstPart, second, secondPart], still) {
  const path = `/api/duels/${first}/${firstPart}/${second}/${secondPart}`;
  show(loading());
  const duel = await get(path);
  if (!still()) return undefined;
  document.title = "vgrpo · blind comparison";
  document.getElementById("where").textContent = "/ blind comparison";
  const waiting = duel.pairs.filter((pair) => !pair.decided);
  const count = duel.pairs.length;
  let at = 0;
  let busy = false;
  let shown = 0;
  const body = h("div", {}, loading());
  show(h("h1", {}, "Which is better?"), h("p", { class: "soft small" }, "The same prompt and noise, two checkpoints in a drawn order. ",
    h("kbd", {}, "←"), " left, ", h("kbd", {}, "→"), " right, ", h("kbd", {}, "↓"), " no difference. Choices are kept in comparisons.jsonl beside your runs."), body);

  async function draw() {
    const turn = ++shown;
    if (!count) return void body.replaceChildren(empty("Nothing to compare", "The two have no prompts in common."));
    if (at >= waiting.length) return result().catch((error) => toast(error.message));
    const pair = waiting[at];
    const side = (name) => h("button", { type: "button", class: "card", "aria-label": `${name} is better`, onclick: () => choose(name) },
      h("img", { class: "hard", src: `${path}/${pair.id}/${name}`, alt: `${name} picture of: ${pair.prompt}` }), h("span", {}, name === "left" ? "Left is better" : "Right is better"));
    const sides = [side("left"), side("right")];
    // A picture that arrives later would push what is below it away from under a click.
    await Promise.all(sides.map((card) => card.querySelector("img").decode().catch(() => {})));
    if (!still() || turn !== shown) return;
    body.replaceChildren(h("h2", { class: "section under-duel" }, pair.prompt), h("div", { class: "duel" }, sides),
      h("div", { class: "row section under-duel" }, h("button", { type: "button", onclick: () => choose("tie") }, "No difference"),
        h("span", { class: "soft small grow" }, `${count - waiting.length + at} of ${count} decided`), h("button", { type: "button", class: "bare", onclick: () => result().catch((error) => toast(error.message)) }, "Show the result")));
  }

  async function choose(choice) {
    if (busy || at >= waiting.length) return;
    busy = true;
    try {
      await post(`${path}/${waiting[at].id}`, { choice });
      at += 1;
      await draw();
    } catch (error) { toast(error.message); } finally { busy = false; }
  }

  async function result() {
    const turn = ++shown;
    const found = await get(`${path}/result`);
    if (!still() || turn !== shown) return;
    const percent = (value) => `${number(100 * value)}%`;
    const [a, b] = found.names.map((name) => h("b", {}, name.replace("@", ", iteration ").replace(/0+(?=\d+$)/, "")));
    const bar = h("div", { class: "interval", role: "img", "aria-label": "the interval, and a dashed line at one half" }, h("u"), h("i"), h("b"));
    if (found.count) {
      bar.children[1].style.left = percent(found.low);
      bar.children[1].style.width = percent(found.high - found.low);
      bar.children[2].style.left = percent(found.share);
    }
    const told = !found.count ? "No pair is decided yet." : found.low > 0.5 ? "The second is better, beyond chance." : found.high < 0.5 ? "The first is better, beyond chance." : "So far this may be chance.";
    body.replaceChildren(h("div", { class: "card verdict" }, h("h2", {}, told), h("p", { class: "small" }, a, " against ", b),
      found.count ? bar : null,
      found.count ? h("p", {}, `The second is preferred in ${percent(found.share)} of ${found.count} pairs, 95% interval ${percent(found.low)} to ${percent(found.high)}.`) : null,
      h("p", { class: "soft small" }, `${found.first} for the first, ${found.second} for the second, ${found.tie} without a difference`),
      h("p", {}, h("a", { href: `${path}/preferences`, download: "preferences.jsonl" }, "Export as preference pairs")),
      at < waiting.length ? h("p", {}, h("button", { type: "button", onclick: draw }, "Go on")) : null));
  }

  function keys(event) {
    const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
    if (!choice || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (at >= waiting.length || !body.querySelector(".duel")) return;
    event.preventDefault();
    choose(choice);
  }

  document.addEventListener("keydown", keys);
  draw();
  return () => document.removeEventListener("keydown", keys);
}
