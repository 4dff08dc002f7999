// The upper part of the view Now: what is wrong and what to do, and the whole in a few numbers.
//
// Owns how a promise's standing becomes a tone; the flows below are `now.js`'s.

import { h } from "./dom.js";
import { count, duration, ms, objective as told, percent, plural, rate, times } from "./format.js";
import { badge, tile } from "./parts.js";
import { p99Curve, rateCurve } from "./charts.js";

/** What is wrong now, the heaviest first; or that nothing is. */
export function problems(app) {
  const found = app.overview.problems;
  if (!found.length) {
    const { covered_s: covered, flows } = app.overview;
    const isQuiet = !flows.some((flow) => flow.traffic.requests > 0);
    if (!covered)
      return h("p", { class: "all-well" }, badge("Just started: the first numbers come in a few seconds.", "info"));
    if (isQuiet) return h("p", { class: "all-well" }, badge("Nothing is wrong. Nothing was asked either.", "good"));
    const isKept = flows.every((flow) => [null, "good"].includes(tone(flow.traffic.sla)));
    return h(
      "p",
      { class: "all-well" },
      isKept
        ? badge("Nothing is wrong: every promise is kept.", "good")
        : badge("Nothing to act on: some requests missed their promise, too few to say more.", "info"),
    );
  }
  return h(
    "ul",
    { class: "problems", "aria-label": plural(found.length, "problem") },
    found.map((p, i) =>
      h(
        "li",
        { class: `problem is-${p.severity}`, key: `${p.kind}-${p.tenant}-${p.domain}-${p.tier}-${p.subject}-${i}` },
        h(
          "div",
          { class: "problem-head" },
          badge(p.severity === "act" ? "Act" : "Watch", p.severity === "act" ? "bad" : "watch"),
          h("strong", null, p.what),
          lead(app, p),
        ),
        h(
          "div",
          { class: "problem-body" },
          p.why && h("p", null, h("span", { class: "faint" }, "Why: "), p.why),
          p.do && h("p", null, h("span", { class: "faint" }, "Do: "), p.do),
        ),
      ),
    ),
  );
}

/** A link to where a problem shows. */
function lead(app, p) {
  const flow =
    p.tenant &&
    p.domain &&
    app.overview.flows.find(
      (f) => f.tenant === p.tenant && f.domain === p.domain && (p.tier === null || f.tier === p.tier),
    );
  const address = flow
    ? `#/now/${[flow.tenant, flow.domain, flow.tier].map(encodeURIComponent).join("/")}`
    : ["process_down", "process_restarts", "process_gone", "worker_busy", "no_worker", "quarantined"].includes(
          p.kind,
        ) && app.overview.workers.length
      ? "#/fleet"
      : ["drift", "canary_bad", "ticket_missing"].includes(p.kind)
        ? "#/families"
        : ["canary_rolled_back", "gate_refused"].includes(p.kind) && app.overview.events.length
          ? "#/events"
          : null;
  return address && h("a", { href: address }, "Show it");
}

/** The viewer's whole traffic in a few numbers. */
export function tiles(app, t) {
  const { objective, attainment, missed, met } = t.sla;
  const failed = Object.entries(t.outcomes)
    .filter(([name]) => name !== "ok")
    .reduce((sum, [, n]) => sum + n, 0);
  const { control } = app.overview;
  const away =
    app.overview.viewer.tenant === null && control.redis_away_s ? ` for ${duration(control.redis_away_s)}` : "";
  return h(
    "div",
    { class: "tiles" },
    tile({
      name: "Requests",
      value: rate(t.rate_per_s),
      note: `${count(t.requests)} in the window`,
      chart: rateCurve(t.spark),
    }),
    tile({
      name: "Latency p99",
      value: ms(t.p99_ms),
      note: `p50 ${ms(t.p50_ms)} · p95 ${ms(t.p95_ms)}`,
      chart: p99Curve(t.spark, null),
    }),
    tile({
      name: "Promises kept",
      value: percent(attainment),
      tone: tone(t.sla),
      title: "The part of the requests that met their tier's deadline",
      note:
        attainment === null
          ? `${told(objective)} is promised`
          : `${told(objective)} is promised · ${count(missed)} of ${count(met + missed)} missed`,
    }),
    tile({
      name: "Error budget burn",
      value: times(t.sla.burn),
      tone: tone(t.sla),
      title: "1× uses the budget up exactly as fast as the objective allows",
      note: t.sla.burn === null ? "nothing to count" : t.sla.burn > 1 ? "faster than allowed" : "within the budget",
    }),
    tile({
      name: "Not answered",
      value: count(failed),
      note: failures(t.outcomes) ?? "nothing was refused or failed",
      tone: failed > 0 ? "watch" : null,
    }),
    tile({
      name: "Control plane",
      value: control.is_redis_up ? "up" : "away",
      tone: control.is_redis_up ? null : "bad",
      note: control.is_redis_up ? "changes are possible" : `Redis is away${away}: answers go on, changes wait`,
    }),
  );
}

/** Of refusals and failures, the two commonest, in words. */
function failures(outcomes) {
  const found = Object.entries(outcomes)
    .filter(([name, n]) => name !== "ok" && n > 0)
    .sort((a, b) => b[1] - a[1]);
  if (!found.length) return null;
  const said = found.slice(0, 2).map(([name, n]) => `${count(n)} ${name.replaceAll("_", " ")}`);
  return said.join(", ") + (found.length > 2 ? ", …" : "");
}

const FEW = 5;

/** How a promise stands, as a tone. One or two missed requests are not yet a bad promise. */
export function tone({ attainment, objective, burn, missed }) {
  if (attainment === null) return null;
  if (attainment < objective) return burn >= 6 && missed >= FEW ? "bad" : "watch";
  return "good";
}
