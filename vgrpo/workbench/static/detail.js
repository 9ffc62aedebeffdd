// One picture: before and after with a divider, its scores, its seed and the command that draws it again.
import { bound } from "./api.js";
import { boxes, seen } from "./boxes.js";
import { copied, dialog, fill, h, number, signed } from "./dom.js";

let framed = true; // as it was left when the last picture was closed

export async function look({ page, album, sets, set, index, member, text }) {
  let [before, after] = [sets[0], set];
  const facts = h("div", { class: "facts" });
  const view = h("div", {});
  const pick = (label, chosen, act) => h("label", { class: "row small" }, label, h("select", { onchange: (event) => act(event.target.value) },
    sets.map((name) => h("option", { value: name, selected: name === chosen }, `iteration ${Number(name)}`))));
  const box = dialog(text || "A picture", h("div", { class: "look" },
    h("div", {}, view, h("div", { class: "row" }, pick("left", before, (value) => { before = value; draw(); }), pick("right", after, (value) => { after = value; draw(); }))),
    facts));

  async function draw() {
    const [old, now] = await Promise.all([album.entry(before), album.entry(after)]);
    if (!box.isConnected) return;
    const names = [before, after].map((name) => `iteration ${Number(name)}`);
    const parted = divider(album.picture(old, index, member), album.picture(now, index, member), ...names, text);
    view.replaceChildren(parted);
    fill(facts, scores(old, now, index, member), frames(parted, [old, now], names, index, member), h("div", {}, h("h3", {}, "Seed"),
      h("p", { class: "small" }, `Picture ${member + 1} of prompt ${index}. Its noise is named by (0, "sample", ${index}, ${member}); it is the same in every checkpoint.`)),
    bound ? null : remake(now));
  }
  await draw();
}

export function divider(left, right, leftName, rightName, text) {
  const box = h("div", { class: "divider" });
  const soft = (event) => event.target.classList.toggle("hard", event.target.naturalWidth <= 128);
  const range = h("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": "Divider between before and after",
    oninput: () => box.style.setProperty("--at", `${range.value}%`) });
  const follow = (event) => {
    if (event.type === "pointerdown") range.setPointerCapture(event.pointerId);
    if (event.buttons !== 1) return;
    const frame = box.getBoundingClientRect();
    range.value = Math.round(((event.clientX - frame.left) / frame.width) * 100);
    box.style.setProperty("--at", `${range.value}%`);
  };
  range.addEventListener("pointerdown", follow);
  range.addEventListener("pointermove", follow);
  box.append(h("img", { src: left, alt: `${text}, ${leftName}`, onload: soft, draggable: "false" }), h("img", { class: "after", src: right, alt: `${text}, ${rightName}`, onload: soft, draggable: "false" }),
    h("span", { class: "edge" }), h("span", { class: "name left" }, leftName), h("span", { class: "name right" }, rightName), range);
  return box;
}

function scores(old, now, index, member) {
  const of = (entry, values) => values?.[entry.pictures.indexOf(index)]?.[member] ?? null;
  const lines = [["reward", of(old, old.reward), of(now, now.reward)]];
  if (now.rewards.length > 1) now.rewards.forEach((name, column) => lines.push([name, of(old, old.parts)?.[column] ?? null, of(now, now.parts)?.[column] ?? null]));
  if (now.strict.length || old.strict.length) lines.push(["strict", of(old, old.strict), of(now, now.strict)]);
  if (lines.every(([, a, b]) => a === null && b === null)) return h("p", { class: "soft small" }, "These pictures have no scores: the run is of an older vgrpo, or its reward failed.");
  return h("table", {}, h("thead", {}, h("tr", {}, ["score", "left", "right", "change"].map((name, i) => h("th", { class: i ? "num" : "" }, name)))),
    h("tbody", {}, lines.map(([name, a, b]) => h("tr", {}, h("td", {}, name), h("td", { class: "num" }, number(a)), h("td", { class: "num" }, number(b)),
      h("td", { class: `num ${b > a ? "good" : b < a ? "bad" : ""}` }, a === null || b === null ? "" : signed(b - a))))));
}

function remake({ remake: { command, note } }) {
  return h("div", {}, copied("Draw it again", command), note ? h("p", { class: "soft small" }, note) : null);
}

// What the rewards saw on both sides: the left one's frames end at the divider, where the right one's begin.
function frames(parted, entries, names, index, member) {
  const sides = entries.map((entry) => seen(entry.found, entry.pictures.indexOf(index), member));
  if (!sides.some(Boolean)) return null;
  const made = sides.map((side, i) => side && boxes(side.list, entries[i].cells[1] / entries[i].cells[0], i ? "after" : "before"));
  made.forEach((each) => each && parted.querySelector(".edge").before(each.layer));
  const shown = h("input", { type: "checkbox", checked: framed, onchange: () => { framed = shown.checked; parted.classList.toggle("bare", !framed); } });
  parted.classList.toggle("bare", !framed);
  return h("div", {}, h("div", { class: "row" }, h("h3", { class: "grow" }, `What ${sides.find(Boolean).reward} saw`), h("label", { class: "check" }, shown, "Frames")),
    h("div", { class: "sides" }, made.map((each, i) => h("div", {}, h("p", { class: "soft tiny" }, names[i]), each ? each.legend : h("p", { class: "small" }, "nothing")))));
}
