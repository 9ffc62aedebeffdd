// What the server is asked for, and its stream of changes.

export class Refused extends Error {}

// report.html holds the answers to all that its page asks for, and nobody answers there.
const kept = document.getElementById("kept");
const answers = kept ? JSON.parse(kept.textContent) : null;
export const bound = answers !== null;

export async function get(path) {
  if (bound) {
    const found = answers[path.split("?")[0]];
    if (found === undefined) throw new Refused("This is not in the report. `vgrpo ui` shows all of a run.");
    return found;
  }
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Refused("The server does not answer. Is `vgrpo ui` still running?");
  }
  if (!answer.ok) throw new Refused(await answer.text());
  return answer.json();
}

export async function post(path, content) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  });
  if (!answer.ok) throw new Refused(await answer.text());
  return answer.json();
}

// Columns of a run's numbers; `more` asks for the rows since.
export class Metrics {
  constructor(run) {
    this.run = run;
    this.rows = 0;
    this.every = 1; // iterations that a row is the mean of
    this.columns = {};
  }

  // One after another: two that ask at once would both append the same rows.
  more() {
    this.turn = (this.turn ?? Promise.resolve()).catch(() => {}).then(() => this.read());
    return this.turn;
  }

  async read() {
    const found = await get(`/api/runs/${this.run}/metrics?after=${this.rows}`);
    const again = found.rows < this.rows || found.start !== this.rows; // a resumed run's file begins anew
    if (again) {
      this.rows = 0;
      this.columns = {};
      return this.read();
    }
    for (const [name, column] of Object.entries(found.columns)) {
      this.columns[name] ??= Array(this.rows).fill(null);
      this.columns[name] = this.columns[name].concat(column);
    }
    this.rows = found.rows;
    this.every = found.every ?? 1;
    return this;
  }
}

let stream = null;
const ALL = ["metrics", "scores", "settings", "finished", "steered", "samples", "groups"];
const AT_FIRST = ["metrics", "finished"];

// Where a picture lies: an address of the server, or in a report the picture itself.
export function address(path) {
  return bound ? (answers[path.split("?")[0]] ?? "") : path;
}

export function watch(runs, act) {
  unwatch();
  if (bound) return;
  let opened = 0;
  stream = new EventSource(`/api/events?runs=${runs.join(",")}`);
  stream.addEventListener("changed", (event) => act(JSON.parse(event.data)));
  stream.addEventListener("open", () => {
    mark("on", "live");
    const missed = opened++ ? ALL : AT_FIRST; // what changed while it was cut off, or since the page was read, nobody told
    runs.forEach((run) => act({ run, parts: missed }));
  });
  stream.addEventListener("error", () => mark("off", "not connected"));
}

export function unwatch() {
  stream?.close();
  stream = null;
  mark("", "not connected");
}

function mark(name, title) {
  const dot = document.getElementById("live");
  if (!dot) return;
  dot.className = `dot ${name}`;
  dot.title = title;
  dot.setAttribute("aria-label", title);
}
