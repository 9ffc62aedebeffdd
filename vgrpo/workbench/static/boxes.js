// What a reward saw on a picture: frames over it, and a legend that a keyboard can walk through.
import { h, svg } from "./dom.js";

const COLOURS = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7"];

// `found` is [[label, left, top, right, bottom], ...] in thousandths; `shape` is height / width. Returns the frames and the legend.
export function boxes(found, shape, place) {
  const high = 1000 * shape;
  const layer = svg("svg", { class: `boxes ${place}`, viewBox: `0 0 1000 ${high}`, "aria-hidden": "true", focusable: "false" });
  const marks = found.map(([, left, top, right, bottom], i) => {
    const ends = { x: left, y: top * shape, width: right - left, height: (bottom - top) * shape };
    const ink = svg("rect", { ...ends, class: "ink", "vector-effect": "non-scaling-stroke" });
    ink.style.stroke = `var(${COLOURS[i % COLOURS.length]})`;
    const name = svg("text", { x: left + 12, y: top * shape + 52 }, String(i + 1));
    const mark = svg("g", {}, svg("rect", { ...ends, class: "halo", "vector-effect": "non-scaling-stroke" }), ink, name);
    layer.append(mark);
    return mark;
  });
  const light = (i, on) => marks.forEach((mark, j) => { mark.classList.toggle("lit", on && i === j); mark.classList.toggle("dim", on && i !== j); });
  const items = found.map(([label], i) => {
    const sign = h("i", {});
    sign.style.borderColor = `var(${COLOURS[i % COLOURS.length]})`;
    return h("li", {}, h("button", { type: "button", class: "bare", onfocus: () => light(i, true), onblur: () => light(i, false), onmouseenter: () => light(i, true), onmouseleave: () => light(i, false) }, sign, `${i + 1} ${label}`));
  });
  return { layer, legend: h("ol", { class: "found" }, items) };
}

// One list of all that the rewards saw, by the first reward that saw anything.
export function seen(found, ...places) {
  for (const [reward, rows] of Object.entries(found ?? {})) {
    const list = places.reduce((rest, place) => rest?.[place], rows);
    if (list?.length) return { reward, list };
  }
  return null;
}
