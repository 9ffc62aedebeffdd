// A chart as a file: PNG as it is seen, SVG to be printed, CSV to be computed with.
import { number } from "./dom.js";

const WIDTH = 640;
const HEIGHT = 360;
const BOX = { left: 64, right: 16, top: 40, bottom: 64 };

export function asCsv(panel) {
  const quote = (text) => `"${/^[=+\-@\t\r]/.test(text) ? "'" : ""}${text.replaceAll('"', '""')}"`; // a name must not be a formula in a table
  const lines = panel.lines.flatMap((line) => line.x.map((x, row) => [quote(line.title), x, line.raw[row] ?? "", line.values[row] ?? ""].join(",")));
  return ["line," + quote(panel.xTitle) + ",value,smoothed", ...lines].join("\n") + "\n";
}

export function asSvg(panel, colour) {
  const text = (value) => String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
  const xs = panel.lines.flatMap((line) => line.x);
  const ys = panel.lines.flatMap((line) => line.values).filter((value) => value !== null);
  const scale = panel.log ? Math.log10 : (value) => value;
  const [x0, x1, y0, y1] = [least(xs), most(xs), scale(least(ys)), scale(most(ys))];
  const across = (x) => BOX.left + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - BOX.left - BOX.right);
  const up = (y) => HEIGHT - BOX.bottom - ((scale(y) - y0) / (y1 - y0 || 1)) * (HEIGHT - BOX.top - BOX.bottom);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const value = y0 + share * (y1 - y0);
    const y = HEIGHT - BOX.bottom - share * (HEIGHT - BOX.top - BOX.bottom);
    return `<line x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${y}" y2="${y}" stroke="#ddd"/><text x="${BOX.left - 6}" y="${y + 4}" text-anchor="end">${text(number(panel.log ? 10 ** value : value))}</text>`;
  });
  const feet = [0, 0.5, 1].map((share) => `<text x="${across(x0 + share * (x1 - x0))}" y="${HEIGHT - BOX.bottom + 18}" text-anchor="middle">${text(number(x0 + share * (x1 - x0)))}</text>`);
  const lines = panel.lines.map((line) => {
    const points = line.x.map((x, row) => (line.values[row] === null ? "" : `${across(x).toFixed(1)},${up(line.values[row]).toFixed(1)}`)).filter(Boolean);
    return `<polyline points="${points.join(" ")}" fill="none" stroke="${text(colour(line.colour))}" stroke-width="2" stroke-dasharray="${line.dash.join(" ")}"/>`;
  });
  const names = panel.lines.map((line, i) => `<tspan x="${BOX.left + (i % 4) * 142}" y="${HEIGHT - 22 + Math.floor(i / 4) * 14}" fill="${text(colour(line.colour))}">${text(line.title.slice(0, 22))}</tspan>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="system-ui, sans-serif" font-size="11" fill="#444"><rect width="100%" height="100%" fill="#fff"/>` +
    `<text x="${BOX.left}" y="22" font-size="14" font-weight="600" fill="#111">${text(panel.title)}</text>${ticks.join("")}${feet.join("")}` +
    `<text x="${WIDTH - BOX.right}" y="${HEIGHT - BOX.bottom + 34}" text-anchor="end">${text(panel.xTitle)}</text>${lines.join("")}<text>${names.join("")}</text></svg>\n`;
}

export function asPng(panel, drawn) {
  const plot = drawn.ctx.canvas;
  const size = window.devicePixelRatio || 1;
  const style = getComputedStyle(document.documentElement);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [plot.width, plot.height + 60 * size];
  const pen = canvas.getContext("2d");
  pen.fillStyle = style.getPropertyValue("--card");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(plot, 0, 30 * size);
  pen.scale(size, size);
  pen.fillStyle = style.getPropertyValue("--ink");
  pen.font = "600 14px system-ui, sans-serif";
  pen.fillText(panel.title, 12, 20);
  pen.font = "11px system-ui, sans-serif";
  let place = 12;
  for (const line of panel.lines) {
    pen.fillStyle = style.getPropertyValue(line.colour);
    pen.fillText(line.title, place, canvas.height / size - 10);
    place += pen.measureText(line.title).width + 14;
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

const least = (values) => values.reduce((found, value) => (value < found ? value : found), Infinity);
const most = (values) => values.reduce((found, value) => (value > found ? value : found), -Infinity);
