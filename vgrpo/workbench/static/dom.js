// Elements and texts. Nothing of a run's folder is ever taken as HTML: texts become text nodes.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    else if (key === "value" || key === "checked" || key === "disabled") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function show(...children) {
  const main = document.getElementById("main");
  fill(main, ...children);
  return main;
}

export function loading() {
  return h("p", { class: "loading", role: "status" }, "Loading…");
}

// replaceChildren would read null as a word.
export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export function toast(text) {
  const place = document.getElementById("toast");
  place.replaceChildren(h("div", {}, text));
  clearTimeout(place.timer);
  place.timer = setTimeout(() => place.replaceChildren(), 3500);
}

// Four digits are enough to read; a number is never longer than its place.
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(digits)).toString();
}

export function signed(value) {
  return value === null || !Number.isFinite(value) ? "" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value), 2)}`;
}

export function duration(seconds) {
  if (!(seconds > 0)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function ago(time) {
  const seconds = Date.now() / 1000 - time;
  return time > 0 ? `${duration(Math.max(1, seconds))} ago` : "never";
}

export function choice(label, options, chosen, act) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => pick(value) }, text));
  function pick(value) {
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(options[index][0] === value)));
    act(value);
  }
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

export function empty(title, text) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text));
}

export function dialog(title, ...body) {
  const close = h("button", { class: "bare", type: "button", "aria-label": "Close", onclick: () => box.close() }, "✕");
  const box = h("dialog", { "aria-label": title },
    h("div", { class: "top" }, h("h2", { class: "grow" }, title), close), h("div", { class: "body" }, body));
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => event.target === box && box.close());
  document.body.append(box);
  box.showModal();
  return box;
}

// A command to be copied.
export function copied(title, command) {
  const copy = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(command); toast("Copied"); } catch { toast("The browser does not allow to copy"); }
  } }, "Copy");
  return h("div", {}, h("div", { class: "row" }, h("h3", { class: "grow" }, title), copy), h("pre", {}, command));
}

export function download(name, data, type = "text/plain") {
  const address = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
