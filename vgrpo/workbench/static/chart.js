// A chart by uPlot, in the page's colours, with a legend and exports.
import uPlot from "./uplot/uPlot.esm.js";
import { asCsv, asPng, asSvg } from "./exports.js";
import { download, h, number } from "./dom.js";

const HEIGHT = 210;

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function faded(hex, share) {
  const [r, g, b] = [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  return `rgb(${r} ${g} ${b} / ${share})`;
}

// Every line's x may be its own; uPlot wants one. Behind each line lie its raw values, and a band where it has a spread.
function tables(panel) {
  const parts = [];
  const series = [{}];
  const bands = [];
  for (const line of panel.lines) {
    const ink = colour(line.colour);
    if (line.spread) {
      const edge = (sign) => line.values.map((value, i) => (value === null || line.spread[i] === null ? null : value + sign * line.spread[i]));
      bands.push({ series: [series.length, series.length + 1], fill: faded(ink, 0.13) });
      for (const sign of [1, -1]) {
        parts.push([line.x, edge(sign)]);
        series.push({ stroke: "transparent", points: { show: false }, spanGaps: true });
      }
    }
    parts.push([line.x, line.raw]);
    series.push({ stroke: faded(ink, 0.28), width: 1, points: { show: false }, spanGaps: true });
    parts.push([line.x, line.values]);
    series.push({ stroke: ink, width: 2, dash: line.dash, points: { show: line.dots || line.values.length < 2, size: 6, fill: ink }, spanGaps: true, line });
  }
  if (panel.gap && panel.lines.length > 1) {
    const first = new Map(); // of each run, the line that the others are measured against
    series.forEach(({ line }, i) => {
      if (!line) return;
      if (first.has(line.run)) bands.push({ series: [first.get(line.run), i], fill: faded(colour("--s2"), 0.12) });
      else first.set(line.run, i);
    });
  }
  return { data: uPlot.join(parts), series, bands };
}

// Steps between ticks where there is nothing in between, such as half an iteration.
const WHOLE = Array.from({ length: 9 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

export function chart(panel, since = null) {
  const plot = h("div", { class: "plot" });
  const legend = h("div", { class: "legend" });
  const name = panel.title.replaceAll(/[^\w-]+/g, "-");
  const save = (text, act) => h("button", { type: "button", class: "bare", "aria-label": `${text} of ${panel.title}`, onclick: act }, text);
  const element = h("figure", { class: "card chart" }, h("div", { class: "top" }, h("h3", {}, panel.title),
    save("PNG", async () => download(`${name}.png`, await asPng(panel, drawn))), save("SVG", () => download(`${name}.svg`, asSvg(panel, colour), "image/svg+xml")),
    save("CSV", () => download(`${name}.csv`, asCsv(panel), "text/csv"))), plot, legend);
  let drawn = null;
  let watched = null;

  function tell(row) {
    legend.replaceChildren(...panel.lines.map((line) => {
      const mark = h("i");
      mark.style.borderColor = `var(${line.colour})`;
      mark.style.borderTopStyle = line.dash.length ? "dashed" : "solid";
      const place = row === null ? line.values.length - 1 : nearest(line.x, row);
      return h("span", {}, mark, line.title, h("b", {}, number(line.raw[place] ?? line.raw.findLast((value) => value !== null))));
    }));
  }

  function draw() {
    const { data, series, bands } = tables(panel);
    const soft = colour("--soft");
    const grid = { stroke: colour("--line"), width: 1 };
    const axes = [
      { stroke: soft, grid: { show: false }, ticks: grid, font: "11px system-ui", label: panel.xTitle, labelFont: "11px system-ui", labelSize: 18, size: 30, ...(data[0].every(Number.isInteger) ? { incrs: WHOLE } : {}), values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
      { stroke: soft, grid, ticks: { show: false }, font: "11px system-ui", size: 52, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
    ];
    const options = {
      width: Math.max(160, plot.clientWidth), height: HEIGHT, series, bands, axes, legend: { show: false },
      cursor: { sync: { key: "curves" }, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { distr: panel.log ? 3 : 1 } },
      hooks: {
        setCursor: [(u) => tell(u.cursor.idx === null || u.cursor.idx === undefined ? null : u.data[0][u.cursor.idx])],
        drawAxes: since === null ? [] : [(u) => mark(u, since + 1)],
      },
    };
    drawn?.destroy();
    drawn = new uPlot(options, data, plot);
    drawn.root.setAttribute("role", "img");
    drawn.root.setAttribute("aria-label", summary(panel));
    tell(null);
    watched ??= new ResizeObserver(() => drawn && plot.clientWidth > 0 && drawn.setSize({ width: plot.clientWidth, height: HEIGHT }));
    watched.observe(plot);
  }

  const again = () => drawn && draw();
  window.addEventListener("theme", again);
  return {
    element, draw,
    update: (next) => { panel = next; if (drawn) draw(); },
    destroy: () => { window.removeEventListener("theme", again); watched?.disconnect(); drawn?.destroy(); drawn = null; },
  };
}

function summary(panel) {
  return `${panel.title}: ${panel.lines.map((line) => `${line.title} ${number(line.values.find((v) => v !== null))} to ${number(line.values.findLast((v) => v !== null))}`).join(", ")}`;
}

// Where an illness began.
function mark(u, x) {
  const place = Math.round(u.valToPos(x, "x", true));
  u.ctx.save();
  u.ctx.strokeStyle = colour("--bad");
  u.ctx.setLineDash([4, 4]);
  u.ctx.beginPath();
  u.ctx.moveTo(place, u.bbox.top);
  u.ctx.lineTo(place, u.bbox.top + u.bbox.height);
  u.ctx.stroke();
  u.ctx.restore();
}

function nearest(xs, x) {
  let [low, high] = [0, xs.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}
