// One flow in detail: a domain's tier of one tenant over time, against its SLA line; how its requests ended, and who answered.

import { h } from "./dom.js";
import { count, ms, objective, percent, promised, rate, share, short, times } from "./format.js";
import { commandLine, curl, fold, grid } from "./parts.js";
import { room, stack, timeline } from "./charts.js";

const PARTS = [
  ["admission", "parsing and routing", 2],
  ["hop", "between processes", 5],
  ["queue", "queue", 3],
  ["tokenize", "tokenizing", 1],
  ["run", "running", 0],
]; // as the contract names them, in words, and their colours
const REASONS = {
  best: "nothing better may answer",
  late: "a better one would be late",
  load: "under load",
  cascade: "cascade",
  cold: "a better one is not in memory",
  lost: "a better one could not be loaded",
  canary: "a trial",
  pinned: "asked for by its id",
};

/** What names a flow in `app.ui.open`. */
export const flowId = (flow) => `flow/${flow.tenant}/${flow.domain}/${flow.tier}`;

/** The panel below a flow's row. */
export function flowDetail(app, flow) {
  const id = flowId(flow);
  return h(
    "div",
    { class: "detail" },
    curves(app, flow, id),
    numbers(flow),
    causes(flow),
    flow.policy !== null &&
      fold(app, `${id}-ask`, { show: "How to ask it", hide: "Hide how to ask it" }, () =>
        commandLine(curl(flow.domain, { tier: flow.tier }), app),
      ),
  );
}

function curves(app, { traffic: t, deadline_ms: deadline }, id) {
  const all = document.documentElement.clientWidth;
  const width = all > 1000 ? Math.min(640, Math.floor((Math.min(all, 1480) - 130) / 2)) : room(640);
  const line = deadline === null ? null : { value: deadline, name: "deadline" };
  const p99 = { title: "p99", values: t.spark.p99_ms, format: ms, unit: "\u202fms", tone: "latency", line };
  const rates = { title: "Requests per second", values: t.spark.rate_per_s, format: rate, unit: "" };
  return h(
    "div",
    { class: "figures" },
    timeline(app, { id: `${id}-p99`, of: t.spark, width, ...p99 }),
    timeline(app, { id: `${id}-rate`, of: t.spark, width, ...rates }),
  );
}

function numbers(flow) {
  const t = flow.traffic;
  return h(
    "dl",
    { class: "facts" },
    fact("p50 · p95 · p99", `${ms(t.p50_ms)} · ${ms(t.p95_ms)} · ${ms(t.p99_ms)}`),
    fact("Waiting for a worker", t.queue_ms === null ? ms(null) : `${ms(t.queue_ms)} on average`),
    fact("Deadline", flow.deadline_ms === null ? "not in the table" : promised(flow.deadline_ms)),
    fact("Quality floor", flow.quality_floor === null ? percent(null) : objective(flow.quality_floor)),
    fact("Policy", flow.policy ?? "not in the table"),
    fact("Promise kept", `${percent(t.sla.attainment)}, ${objective(t.sla.objective)} promised`),
    fact("Error budget burn", times(t.sla.burn)),
    fact("Requests", count(t.requests)),
  );
}

/** Where the time went, who answered and why, how it ended. */
function causes(flow) {
  const t = flow.traffic;
  const parts = PARTS.filter(([name]) => t.parts_ms[name] !== undefined);
  const ids = flow.answered.map((a) => a.ticket ?? "").sort(); // a colour stays a ticket's when another leads
  const tickets = flow.answered.map((a) => ({
    name: whoIs(a),
    value: a.answers,
    kind: ids.indexOf(a.ticket ?? "") % 6,
  }));
  const ended = Object.entries(t.outcomes).sort((a, b) => b[1] - a[1]);
  const panel = (title, items, show) =>
    h("div", null, h("h3", null, title), items.length ? show(items) : h("p", { class: "faint" }, "Nothing yet."));
  return h(
    "div",
    { class: "figures" },
    panel("Where the time went", parts, () =>
      stack(
        parts.map(([name, words, kind]) => ({ name: words, value: t.parts_ms[name], kind })),
        { label: "Milliseconds of an answer, on average", format: ms },
      ),
    ),
    panel("Who answered", tickets, () => stack(tickets, { label: "Answers by ticket", format: count })),
    panel("Why that one", reasonsOf(flow.steps), (reasons) =>
      stack(reasons, { label: "Answers by why their ticket was taken", format: count }),
    ),
    panel("How requests ended", ended, () =>
      grid(
        ["outcome", { name: "requests", num: true }, { name: "share", num: true }],
        ended.map(([name, n]) => [name.replaceAll("_", " "), count(n), share(n / t.requests)]),
        { label: "Outcomes" },
      ),
    ),
  );
}

const fact = (name, value) => h("div", { class: "fact" }, h("dt", null, name), h("dd", { class: "num" }, value));

/** A ticket that answered, as people know it. */
export const whoIs = (a) => (a.ticket === null ? "another" : `${a.tier ?? "ticket"} ${short(a.ticket)}`);

function reasonsOf(steps) {
  const sums = new Map();
  for (const step of steps)
    for (const [reason, n] of Object.entries(step.reasons)) sums.set(reason, (sums.get(reason) ?? 0) + n);
  return Object.keys(REASONS)
    .concat([...sums.keys()].filter((name) => !(name in REASONS)))
    .filter((name) => sums.get(name) > 0)
    .map((name) => ({
      name: REASONS[name] ?? name,
      value: sums.get(name),
      kind: Object.keys(REASONS).indexOf(name) % 6,
    }));
}
