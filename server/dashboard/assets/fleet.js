// The view Fleet: workers, gateways and the control plane as processes. For operators.

import { h, classes } from "./dom.js";
import { ago, bytes, count, duration, ms, rate, share, UNKNOWN } from "./format.js";
import { badge, bar, commandLine, empty, section, tile } from "./parts.js";
import { spark } from "./charts.js";

/** The view. */
export function fleet(app) {
  const { workers, gateways, control } = app.overview;
  const up = workers.filter((w) => w.is_up);
  const mean = up.length ? up.reduce((sum, w) => sum + (w.busy ?? 0), 0) / up.length : null;
  const resident = up.reduce((sum, w) => sum + (w.resident_bytes ?? 0), 0);
  return [
    h("h1", { tabindex: "-1" }, "Fleet"),
    h(
      "div",
      { class: "tiles" },
      tile({
        name: "Workers",
        value: `${up.length} of ${workers.length}`,
        note: "answer",
        tone: up.length < workers.length ? "bad" : null,
      }),
      tile({ name: "Busy", value: share(mean), note: "of the workers' time", tone: mean > 0.85 ? "watch" : null }),
      tile({
        name: "Tickets in memory",
        value: bytes(resident),
        note: `${count(up.reduce((sum, w) => sum + (w.tickets ?? 0), 0))} held by all workers`,
      }),
      tile({
        name: "Control plane",
        value: control.is_redis_up ? "up" : "away",
        tone: control.is_redis_up ? null : "bad",
        note: control.is_redis_up
          ? `table ${control.table_version ?? UNKNOWN}, taken up ${ago(control.table_since, app.overview.at)}`
          : `for ${duration(control.redis_away_s)}: changes wait`,
      }),
    ),
    section(
      "Workers",
      null,
      workers.length
        ? workerTable(app, workers)
        : empty(
            "No workers",
            h(
              "p",
              null,
              "Nothing can be answered until one is here. On this machine ",
              h("code", null, "tombola up"),
              " starts them; elsewhere:",
            ),
            commandLine("tombola worker --redis-url redis://...", app),
          ),
    ),
    section("Gateways", null, gatewayTable(app, gateways)),
  ];
}

const columns = (all) =>
  h(
    "thead",
    null,
    h(
      "tr",
      null,
      all.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)),
    ),
  );

function workerTable(app, workers) {
  return h(
    "table",
    { class: "grid fleet", "aria-label": "Workers" },
    columns([
      ["Worker"],
      ["Busy", "num"],
      ["Over time", "wide-only"],
      ["Queue", "num"],
      ["Wait", "num"],
      ["Texts", "num wide-only"],
      ["Tickets", "num mid-only"],
      ["Their memory", "num mid-only"],
      ["Process", "num wide-only"],
      ["Loads, evictions", "num wide-only"],
      ["Up", "num wide-only"],
    ]),
    h(
      "tbody",
      null,
      workers.map((w) =>
        h(
          "tr",
          { key: w.name, class: classes(!w.is_up && "is-down") },
          h(
            "th",
            { scope: "row" },
            w.name,
            " ",
            w.is_up ? null : badge("no answer", "bad"),
            w.restarts > 0 && badge(`${w.restarts} restarted`, "watch"),
          ),
          h("td", { class: "num" }, share(w.busy), " ", bar(w.busy, { tone: w.busy > 0.85 ? "watch" : "info" })),
          h("td", { class: "wide-only" }, spark(w.spark_busy, { label: "busy", max: 1, format: share })),
          h("td", { class: "num" }, count(w.queue_texts)),
          h("td", { class: "num" }, ms(w.wait_ms)),
          h("td", { class: "num wide-only" }, rate(w.texts_per_s)),
          h("td", { class: "num mid-only" }, count(w.tickets)),
          h("td", { class: "num mid-only" }, bytes(w.resident_bytes)),
          h("td", { class: "num wide-only" }, bytes(w.process_bytes)),
          h("td", { class: "num wide-only" }, `${count(w.loads)}, ${count(w.evictions)}`),
          h("td", { class: "num wide-only" }, w.up_since ? duration(app.overview.at - w.up_since) : UNKNOWN),
        ),
      ),
    ),
  );
}

function gatewayTable(app, gateways) {
  return h(
    "table",
    { class: "grid fleet", "aria-label": "Gateways" },
    columns([
      ["Gateway"],
      ["Requests", "num"],
      ["In flight", "num"],
      ["Workers", "num mid-only"],
      ["Table", "num mid-only"],
      ["Heard from Redis", "num wide-only"],
      ["Process", "num wide-only"],
      ["Up", "num wide-only"],
    ]),
    h(
      "tbody",
      null,
      gateways.map((g) =>
        h(
          "tr",
          { key: g.name, class: classes(!g.is_up && "is-down") },
          h(
            "th",
            { scope: "row" },
            g.name,
            " ",
            g.is_this && h("span", { class: "faint" }, "this one"),
            g.is_up ? null : badge("no answer", "bad"),
            g.restarts > 0 && badge(`${g.restarts} restarted`, "watch"),
          ),
          h("td", { class: "num" }, rate(g.rate_per_s)),
          h("td", { class: "num" }, count(g.in_flight)),
          h("td", { class: "num mid-only" }, count(g.workers)),
          h(
            "td",
            {
              class: classes(
                "num mid-only",
                g.table_version !== null && g.table_version !== app.overview.control.table_version && "is-watch",
              ),
            },
            g.table_version ?? UNKNOWN,
          ),
          h(
            "td",
            { class: "num wide-only" },
            g.stale_s === null ? UNKNOWN : g.stale_s < 1 ? "just now" : `${duration(g.stale_s)} ago`,
          ),
          h("td", { class: "num wide-only" }, bytes(g.process_bytes)),
          h("td", { class: "num wide-only" }, g.up_since ? duration(app.overview.at - g.up_since) : UNKNOWN),
        ),
      ),
    ),
  );
}
