// Which numbers stand on which chart, against what, and how smooth.

const PARTS = /^reward\/(.+)\/mean$/;
const TASKS = /^task\/(.+)\/mean$/;
const MONITORS = /^monitor\/(.+)$/;
const DIVERSITY = /divers/i;

const SECTIONS = [
  ["Reward", [
    { title: "Reward and its spread", names: ["reward/mean"], spread: ["reward/group_std", "reward/std"] },
    { title: "Parts of the reward and their spread", match: PARTS, spread: (name) => [name.replace(/mean$/, "std")] },
    { title: "Tasks", match: TASKS },
  ]],
  ["Watched, not trained on", [
    { title: "Monitors", match: MONITORS },
    { title: "Reward beside monitors, in spreads of their start", names: ["reward/mean"], match: MONITORS, standard: true },
  ]],
  ["Held-out prompts, by the sample pictures", [
    { title: "Reward on training prompts and on held-out ones", names: ["reward/mean"], held: /^reward$/, gap: true },
    { title: "Right in the strict sense", held: /^(strict)$/ },
    { title: "Parts of the reward, held out", held: /^reward\/(?!error$)(.+)/ },
    { title: "Monitors, held out", held: /^monitor\/(.+)/ },
    { title: "Reward of each category, held out", held: /^category\/(.+)/ },
  ]],
  ["Groups", [
    { title: "Groups without spread", names: ["reward/zero_std_groups"] },
    { title: "Spread of the reward", names: ["reward/std", "reward/group_std"] },
    { title: "Diversity", match: DIVERSITY },
    { title: "Images without a score", names: ["reward/failed", "reward/abstained"] },
  ]],
  ["The update", [
    { title: "Ratio of new to old likelihood", names: ["ratio/mean", "ratio/min", "ratio/max", "ratio/first"] },
    { title: "Share of images beyond the clip", names: ["clip_share"] },
    { title: "Distance from the old predictions", names: ["kl"] },
    { title: "Distance from the base model", names: ["ref_kl"] },
    { title: "Variation of the surrogate", names: ["surrogate/cv_within", "surrogate/cv_between"] },
    { title: "Learning rate", names: ["lr"] },
    { title: "Gradient norm", names: ["grad_norm"] },
    { title: "Loss", names: ["loss"] },
    { title: "Steps left out", names: ["bad_steps"] },
  ]],
  ["Time", [
    { title: "Images per second", names: ["images_per_second"] },
    { title: "Seconds of each phase", match: /^seconds\/(?!total)(.+)$/ },
    { title: "GPU memory", match: /memory/ },
  ]],
];

export const DEFAULTS = { x: "iteration", smooth: 0.6, log: false };
export const AXES = [["iteration", "Iterations"], ["time", "Time"], ["nfe", "Evaluations"]];
const COLOURS = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

// Sections of definitions with the names that there are. What no chart knows comes last, so that nothing is hidden.
export function sections(runs) {
  const there = [...new Set(runs.flatMap(({ metrics }) => Object.keys(metrics.columns)))].sort()
    .filter((name) => runs.some(({ metrics }) => metrics.columns[name]?.some((value) => value !== null)));
  const used = new Set(["iteration", "seconds/total"]);
  const take = (definition) => {
    const names = [...(definition.names ?? []), ...there.filter((name) => definition.match?.test(name))];
    const known = [...new Set(names)].filter((name) => there.includes(name));
    const held = definition.held ? heldNames(runs).filter((name) => definition.held.test(name)) : [];
    if ((definition.standard && known.length < 2) || (definition.held && !held.length)) return null;
    known.forEach((name) => used.add(name));
    return known.length + held.length ? { ...definition, names: known, heldNames: held } : null;
  };
  const found = SECTIONS.map(([title, definitions]) => [title, definitions.map(take).filter(Boolean)]);
  found.push(["More", there.filter((name) => !used.has(name)).map((name) => ({ title: name, names: [name] }))]);
  return found.filter(([, definitions]) => definitions.length);
}

function heldNames(runs) {
  return [...new Set(runs.flatMap(({ heldOut }) => Object.keys(heldOut?.columns ?? {})))];
}

export function axis(kind, { metrics }) {
  const column = (name) => metrics.columns[name] ?? [];
  if (kind === "iteration") return column("iteration").map((value, row) => (value ?? row) + 1);
  let sum = 0;
  return Array.from({ length: metrics.rows }, (_, row) => {
    const at = (name) => column(name)[row] ?? 0;
    if (kind === "time") sum += (metrics.every * (at("seconds/total") + at("seconds/checkpoint"))) / 60;
    else sum += metrics.every * at("images_per_second") * at("seconds/total") * (at("nfe/rollout") + at("nfe/old") + at("nfe/train"));
    return sum;
  });
}

export function axisTitle(kind) {
  return { iteration: "iteration", time: "minutes of training", nfe: "network evaluations" }[kind];
}

// A moving average that does not lag at its start, past gaps.
export function smoothed(values, weight) {
  let sum = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + value;
    total = weight * total + 1;
    return sum / total;
  });
}

function standard(values) {
  const start = values.filter((value) => value !== null).slice(0, 10);
  const mean = start.reduce((sum, value) => sum + value, 0) / start.length;
  const spread = Math.sqrt(start.reduce((sum, value) => sum + (value - mean) ** 2, 0) / start.length) || 1;
  return values.map((value) => (value === null ? null : (value - mean) / spread));
}

// A chart's lines: for several runs a colour each, for one run a colour for each number.
export function panel(definition, runs, options, axisOf) {
  const lines = [];
  const several = runs.length > 1;
  runs.forEach(({ run, metrics }, place) => definition.names.forEach((name, index) => {
    let raw = metrics.columns[name];
    if (!raw?.some((value) => value !== null)) return;
    if (definition.standard) raw = standard(raw);
    if (options.log) raw = raw.map((value) => (value > 0 ? value : null));
    const x = axisOf(options.x, { metrics });
    const label = definition.match?.exec(name)?.[1] ?? name;
    const colour = several ? COLOURS[place % COLOURS.length] : COLOURS[index % COLOURS.length];
    const title = several ? (definition.names.length > 1 ? `${run.name}: ${label}` : run.name) : label;
    const spreads = typeof definition.spread === "function" ? definition.spread(name) : definition.spread ?? [];
    const spread = options.log ? null : spreads.map((each) => metrics.columns[each]).find(Boolean);
    lines.push({ title, run: run.id, colour, dash: DASHES[(several ? index : Math.floor(index / COLOURS.length)) % DASHES.length],
      x, raw, values: smoothed(raw, options.smooth), spread: spread ? smoothed(spread, options.smooth) : null });
  }));
  runs.forEach((each, place) => (definition.heldNames ?? []).forEach((name, index) => {
    const line = heldLine(each, name, definition, options, axisOf);
    if (!line) return;
    const colour = COLOURS[(several ? place : index + definition.names.length) % COLOURS.length];
    const title = several ? `${each.run.name}: ${line.title}` : line.title;
    lines.push({ ...line, title, colour, dash: several || definition.names.length ? DASHES[1] : DASHES[Math.floor(index / COLOURS.length) % DASHES.length] });
  }));
  const gap = Boolean(definition.standard || definition.gap);
  return { title: definition.title, lines, log: options.log, xTitle: axisTitle(options.x), gap };
}

// Scores of the pictures of checkpoints: few points, which are not smoothed. Those of iteration n stand where its row does.
function heldLine({ run, metrics, heldOut }, name, definition, options, axisOf) {
  const column = heldOut?.columns[name];
  if (!column?.some((value) => value !== null)) return null;
  const along = options.x === "iteration" ? null : axisOf(options.x, { metrics });
  const x = heldOut.iterations.map((iteration) => (along === null ? iteration : iteration === 0 ? 0 : along[Math.min(along.length, Math.ceil(iteration / metrics.every)) - 1] ?? 0));
  const values = options.log ? column.map((value) => (value > 0 ? value : null)) : column;
  const error = name === "reward" && !definition.names.length ? heldOut.columns["reward/error"] : null;
  return { title: definition.held.exec(name)?.[1] ?? "held out", run: run.id, x, raw: values, values, dots: true,
    spread: error ? error.map((value) => (value === null ? null : 1.96 * value)) : null };
}

// The same curves where a checkpoint is picked: the held-out reward with its interval, and all else beside it.
export function heldOutPanels(runs) {
  const [, definitions] = SECTIONS.find(([, each]) => each.some(({ held }) => held));
  return definitions.map((definition) => {
    const names = heldNames(runs).filter((name) => definition.held.test(name));
    const title = definition.gap ? "Reward, held out" : definition.title;
    return names.length ? panel({ ...definition, title, gap: false, names: [], heldNames: names }, runs, DEFAULTS, axis) : null;
  }).filter(Boolean);
}
