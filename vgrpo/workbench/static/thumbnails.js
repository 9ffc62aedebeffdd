// Thumbnails of what training judged, and which of them earn most.
import { address, get } from "./api.js";
import { h } from "./dom.js";

const NEWEST = 4; // groups
const MOST = 8; // images

export function thumbnail(run, found, place, column) {
  const count = Math.max(...found.groups.map((group) => group.members.length));
  const rows = found.groups.length;
  const box = h("span", { class: found.cell[1] <= 64 ? "cell hard" : "cell", style: { display: "block" } });
  if (found.sheet) box.style.setProperty("--sheet", `url("${address(`/api/runs/${run}/groups/${found.iteration}/sheet?stamp=${found.sheet}`)}")`);
  box.style.setProperty("--shape", found.cell.join(" / "));
  box.style.backgroundSize = `${count * 100}% ${rows * 100}%`;
  box.style.backgroundPosition = `${count > 1 ? (column / (count - 1)) * 100 : 0}% ${rows > 1 ? (place / (rows - 1)) * 100 : 0}%`;
  return box;
}

// How an image is named in the address of the groups' tab.
export function named(iteration, place, column) {
  return `${iteration}.${place}.${column}`;
}

// The images of the newest groups that earned most, the best first.
export async function highest(run) {
  const rows = (await get(`/api/runs/${run}/groups?limit=${NEWEST}`)).groups.slice(0, NEWEST);
  const iterations = [...new Set(rows.map(({ iteration }) => iteration))];
  const entries = new Map(await Promise.all(iterations.map(async (iteration) => [iteration, await get(`/api/runs/${run}/groups/${iteration}`)])));
  return rows.flatMap(({ iteration, place }) => {
    const found = entries.get(iteration);
    return (found.groups[place]?.reward ?? []).map((reward, column) => ({ found, place, column, reward }));
  }).filter(({ reward }) => reward !== null).sort((a, b) => b.reward - a.reward).slice(0, MOST);
}
