// What the numbers say in words.
import { empty, h } from "./dom.js";
import { chart } from "./chart.js";
import { axis, DEFAULTS, panel } from "./panels.js";
import { highest, named, thumbnail } from "./thumbnails.js";

const LEVELS = { bad: "Act on this", warn: "Look at this", note: "Good to know" };

export async function findingsTab(place, page) {
  place.replaceChildren(h("p", { class: "loading" }, "Asking the rules…"));
  page.diagnosis ??= await page.waiting;
  let charts = [];
  function draw() {
    charts.forEach((each) => each.destroy());
    charts = [];
    const { findings, rules, enough } = page.diagnosis;
    if (!findings.length) {
      place.replaceChildren(enough ? empty("Nothing is wrong that a rule knows of", `${rules} rules were asked. They know numbers, not pictures: look at those too.`)
        : empty("Too early to say", "The rules need ten iterations; most need more."));
      return;
    }
    place.replaceChildren(h("div", { class: "findings" }, findings.map((finding) => {
      const runs = [{ run: page.run, metrics: page.metrics }];
      const names = finding.curves.filter((name) => page.metrics.columns[name]?.some((value) => value !== null)).slice(0, 3);
      const row = h("div", { class: "charts" });
      const card = h("article", { class: `card finding ${finding.level}` }, h("span", { class: "level" }, LEVELS[finding.level]), h("h2", {}, finding.title),
        h("p", {}, finding.advice), finding.look ? best(page.run.id) : null, row, h("p", { class: "soft tiny" }, `rule ${finding.rule} · `, h("a", { href: `#/run/${page.run.id}/pictures` }, "pictures"), " · ", h("a", { href: `#/run/${page.run.id}/curves` }, "all curves")));
      queueMicrotask(() => names.forEach((name) => {
        const made = chart(panel({ title: name, names: [name] }, runs, { ...DEFAULTS }, axis), finding.since);
        row.append(made.element);
        made.draw();
        charts.push(made);
      }));
      return card;
    })));
  }
  draw();
  const moved = ["metrics", "scores", "settings"]; // what the rules read
  return { changed: (parts, now) => { page = now; if (parts.some((part) => moved.includes(part))) draw(); }, leave: () => charts.forEach((each) => each.destroy()) };
}

// The images that earn most now: what a reward that is cheated is cheated with.
function best(run) {
  const place = h("div", {});
  highest(run).then((found) => {
    if (!found.length) return;
    const names = found.map((each) => named(each.found.iteration, each.place, each.column));
    place.append(h("a", { class: "highest", href: `#/run/${run}/groups/${names.join(",")}` }, h("span", {}, `Look at these ${found.length} images, the highest rewards of the newest groups`),
      h("span", { class: "row" }, found.map((each) => thumbnail(run, each.found, each.place, each.column)))));
  }).catch(() => {}); // the finding stands without them
  return place;
}
