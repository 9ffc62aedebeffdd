// The address after # says what is shown: #/ the runs, #/run/ID/pictures, #/run/ID/groups/IMAGE,IMAGE, #/curves/ID,ID, #/blind/ID/PART/ID/PART.
import { address, bound, unwatch } from "./api.js";
import { blind } from "./blind.js";
import { overlay } from "./curves.js";
import { dialog, fill, h, show } from "./dom.js";
import { runPage, TABS } from "./run.js";
import { runsPage } from "./runs.js";

const KEYS = [
  [`1 – ${TABS.length}`, "a run's tabs"], ["/", "search"], ["← →", "an earlier or later checkpoint"], ["Space", "play the checkpoints"],
  ["t", "light or dark"], ["g", "the list of runs"], ["?", "this list"], ["Esc", "close"],
];
let shown = 0;
let leave = () => {};

function theme(name) {
  document.documentElement.dataset.theme = name;
  try { localStorage.setItem("theme", name); } catch { /* the browser keeps nothing, and that is its right */ }
  window.dispatchEvent(new Event("theme"));
}

function other() {
  theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}

function bar() {
  fill(document.getElementById("bar"),
    h("a", { class: "brand", href: "#/" }, h("img", { src: address("/static/icon.svg"), alt: "" }), "vgrpo"),
    h("span", { class: "where soft small grow", id: "where" }),
    bound ? null : h("span", { class: "dot", id: "live", role: "img", "aria-label": "not connected", title: "not connected" }),
    h("button", { class: "bare", type: "button", onclick: other, "aria-label": "Light or dark" }, "◐"),
    h("button", { class: "bare", type: "button", onclick: help, "aria-label": "Keys" }, "?"),
  );
}

function help() {
  dialog("Keys", h("table", {}, KEYS.map(([key, text]) => h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, text)))));
}

async function route() {
  const turn = ++shown;
  const [, kind, ...rest] = location.hash.slice(1).split("/");
  leave();
  unwatch();
  leave = () => {};
  document.querySelectorAll("dialog").forEach((box) => box.close());
  document.getElementById("where").replaceChildren();
  const still = () => turn === shown;
  try {
    const start = bound ? () => runPage("report", undefined, still) : () => runsPage(still);
    const page = { run: () => runPage(rest[0], rest[1], still, rest[2]), curves: () => overlay(rest[0], still), blind: () => blind(rest, still) };
    const done = await (page[kind] ?? start)();
    if (still()) leave = done ?? leave;
    else done?.();
  } catch (error) {
    if (!still()) return;
    show(h("div", { class: "error", role: "alert" }, h("h2", {}, "This cannot be shown"), h("p", {}, error.message)),
      h("p", {}, h("a", { href: "#/" }, bound ? "The run" : "All runs"), " · ", h("button", { type: "button", onclick: route }, "Try again")));
    if (error.constructor.name !== "Refused") console.error(error);
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector("dialog[open]")) return;
  const [, kind, run] = location.hash.slice(1).split("/");
  if (event.key === "t") other();
  else if (event.key === "g") location.hash = "#/";
  else if (event.key === "?") help();
  else if (event.key === "/") {
    event.preventDefault();
    document.querySelector("input[type=search]")?.focus();
  } else if (kind === "run" && TABS[event.key - 1]) location.hash = `#/run/${run}/${TABS[event.key - 1][0]}`;
});

let kept = null;
try { kept = localStorage.getItem("theme"); } catch { /* as above */ }
theme(kept ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
bar();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would be taken for a view
  document.getElementById("main").focus();
});
if (bound && !location.hash) location.replace("#/run/report/pictures");
window.addEventListener("hashchange", route);
route();
