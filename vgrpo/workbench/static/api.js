// What the server is asked for, and its stream of changes.

export class Refused extends Error {}

export async function get(path) {
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
    this.columns = {};
  }

  async more() {
    const found = await get(`/api/runs/${this.run}/metrics?after=${this.rows}`);
    const again = found.rows < this.rows || found.start !== this.rows; // a resumed run's file begins anew
    if (again) {
      this.rows = 0;
      this.columns = {};
      return this.more();
    }
    for (const [name, column] of Object.entries(found.columns)) {
      this.columns[name] ??= Array(this.rows).fill(null);
      this.columns[name] = this.columns[name].concat(column);
    }
    this.rows = found.rows;
    return this;
  }
}

let stream = null;
const ALL = ["metrics", "scores", "settings", "finished", "samples", "groups"];
const AT_FIRST = ["metrics", "finished"];

export function watch(runs, act) {
  unwatch();
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
