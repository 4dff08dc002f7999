// The view Now: what is wrong and what to do, the whole in five numbers, every flow against its SLA line.
//
// Owns the order: problems first, then totals (`summary.js`), then tenants with their domains and tiers. One flow's
// detail is in `flow.js`.

import { h, classes } from "./dom.js";
import { count, ms, percent, promised, rate, share, span, times } from "./format.js";
import { badge, commandLine, curl, empty, section } from "./parts.js";
import { problems, tiles, tone } from "./summary.js";
import { latency, p99Curve, rateCurve } from "./charts.js";
import { flowDetail, flowId, whoIs } from "./flow.js";

const COLUMNS = [
  ["Domain and tier"],
  ["Requests", "num"],
  ["", "wide-only"], // the window
  ["p50", "num wide-only"],
  ["p95", "num wide-only"],
  ["p99", "num"],
  ["Against the deadline", "wide-only"],
  ["p99 over time", "wide-only"],
  ["Kept", "num"],
  ["Burn", "num mid-only"],
  ["Answered by", "wide-only"],
];

/** The view. */
export function now(app) {
  const { viewer, total, tenants, flows } = app.overview;
  const whole = viewer.tenant === null ? total : (tenants[0]?.traffic ?? null);
  return [
    h("h1", { tabindex: "-1" }, "Now", h("span", { class: "h1-note" }, `the last ${span(app.overview.window_s)}`)),
    problems(app),
    whole && tiles(app, whole),
    flows.length ? flowTable(app) : noFlows(app),
  ];
}

function flowTable(app) {
  const { flows, tenants, viewer, window_s: windowS } = app.overview;
  const isOperator = viewer.tenant === null;
  const wanted = app.ui.filter.trim().toLowerCase();
  const isBad = (flow) => ["bad", "watch"].includes(tone(flow.traffic.sla));
  const shown = flows.filter(
    (flow) =>
      (!wanted || `${flow.tenant} ${flow.domain} ${flow.tier}`.toLowerCase().includes(wanted)) &&
      (!app.ui.onlyBad || isBad(flow)),
  );
  const names = [...new Set(shown.map((flow) => flow.tenant))];
  const isQuiet = !flows.some((flow) => flow.traffic.requests > 0);
  return section(
    "Tenants, domains, tiers",
    filters(app),
    isQuiet && quiet(app),
    shown.length
      ? h(
          "table",
          { class: "grid flows", "aria-label": "Traffic by tenant, domain and tier" },
          h(
            "thead",
            null,
            h(
              "tr",
              null,
              COLUMNS.map(([name, kind]) =>
                h("th", { scope: "col", class: kind }, name === "" ? `Last ${span(windowS)}` : name),
              ),
            ),
          ),
          names.map((name) =>
            h(
              "tbody",
              { key: name },
              isOperator &&
                tenantRow(
                  app,
                  tenants.find((t) => t.tenant === name),
                  name,
                ),
              shown.filter((flow) => flow.tenant === name).flatMap((flow) => flowRows(app, flow)),
            ),
          ),
        )
      : h("p", { class: "faint" }, app.ui.onlyBad && !wanted ? "No promise is missed." : "Nothing has that name."),
  );
}

function filters(app) {
  return h(
    "div",
    { class: "filters" },
    app.overview.flows.length > 6 &&
      h("input", {
        type: "search",
        "aria-label": "Filter by tenant, domain or tier",
        placeholder: "Filter",
        value: app.ui.filter,
        oninput: (event) => app.set({ filter: event.target.value }),
      }),
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked: Boolean(app.ui.onlyBad),
        onchange: (event) => app.set({ onlyBad: event.target.checked }),
      }),
      "Only missed promises",
    ),
  );
}

function tenantRow(app, row, name) {
  const t = row?.traffic;
  return h(
    "tr",
    { class: "group-row", key: "tenant" },
    h(
      "th",
      { scope: "rowgroup" },
      h("span", { class: "tenant" }, name),
      row?.is_suspended && badge("suspended", "bad"),
      row?.refused_by_limits > 0 && badge(`${count(row.refused_by_limits)} refused by its limits`, "watch"),
    ),
    h("td", { class: "num" }, rate(t?.rate_per_s)),
    h("td", { class: "wide-only" }),
    h("td", { class: "num wide-only" }, ms(t?.p50_ms)),
    h("td", { class: "num wide-only" }, ms(t?.p95_ms)),
    h("td", { class: "num" }, ms(t?.p99_ms)),
    h("td", { class: "wide-only" }),
    h("td", { class: "wide-only" }),
    kept(t?.sla),
    h("td", { class: "num mid-only" }, times(t?.sla.burn)),
    h("td", { class: "wide-only" }),
  );
}

function kept(sla) {
  const found = sla ? tone(sla) : null;
  return h(
    "td",
    { class: classes("num", found && `is-${found}`) },
    found &&
      found !== "good" &&
      h("span", { class: "badge-mark", "aria-hidden": "true" }, found === "bad" ? "■ " : "▲ "),
    percent(sla?.attainment),
  );
}

function flowRows(app, flow) {
  const t = flow.traffic;
  const id = flowId(flow);
  const isRouted = app.route[1] === flow.tenant && app.route[2] === flow.domain && app.route[3] === flow.tier;
  const isOpen = app.ui.open.has(id) !== isRouted;
  const row = h(
    "tr",
    { key: id, class: classes("flow", t.requests === 0 && "is-quiet") },
    h(
      "th",
      { scope: "row" },
      h(
        "button",
        { class: "link flow-name", type: "button", "aria-expanded": String(isOpen), onclick: () => app.toggle(id) },
        h("span", null, flow.domain),
        " ",
        h("span", { class: "tier" }, flow.tier),
      ),
      h(
        "span",
        { class: "flow-note" },
        flow.deadline_ms === null ? "not in the table" : `within ${promised(flow.deadline_ms)}`,
        flow.is_default && " · default",
      ),
      h("span", { class: "narrow-only" }, latency(t, flow.deadline_ms)),
    ),
    h("td", { class: "num" }, rate(t.rate_per_s)),
    h("td", { class: "wide-only" }, rateCurve(t.spark)),
    h("td", { class: "num wide-only" }, ms(t.p50_ms)),
    h("td", { class: "num wide-only" }, ms(t.p95_ms)),
    h(
      "td",
      { class: classes("num", flow.deadline_ms !== null && t.p99_ms > flow.deadline_ms && "is-bad") },
      ms(t.p99_ms),
    ),
    h("td", { class: "wide-only" }, latency(t, flow.deadline_ms)),
    h("td", { class: "wide-only" }, p99Curve(t.spark, flow.deadline_ms)),
    kept(t.sla),
    h("td", { class: "num mid-only" }, times(t.sla.burn)),
    h("td", { class: "wide-only" }, answeredBy(flow.answered)),
  );
  return isOpen
    ? [row, h("tr", { key: `${id}-detail`, class: "detail-row" }, h("td", { colspan: 11 }, flowDetail(app, flow)))]
    : [row];
}

/** Which ticket answered most, for a glance. */
function answeredBy(answered) {
  if (!answered.length) return "";
  const [first] = answered;
  return h(
    "span",
    { title: answered.map((a) => `${whoIs(a)}: ${share(a.share)}`).join(", ") },
    `${first.tier ?? whoIs(first)} `,
    h("span", { class: "faint num" }, share(first.share)),
  );
}

function quiet(app) {
  const flow = app.overview.flows.find((f) => f.is_default) ?? app.overview.flows[0];
  return empty(
    "No traffic yet",
    h(
      "p",
      null,
      "Ask something, and its numbers are here a few seconds later. ",
      h("a", { href: "#/try" }, "Try it here"),
      ", or from a shell with a tenant's key:",
    ),
    commandLine(curl(flow.domain, { tier: flow.tier }), app),
  );
}

function noFlows(app) {
  if (app.overview.viewer.tenant !== null) {
    return empty(
      "No domain yet",
      h("p", null, "This tenant has nothing to ask. Register a ticket, and its domain is made with it."),
      commandLine(`tombola register FILE --tenant ${app.overview.viewer.tenant}`, app),
    );
  }
  return empty(
    "No tenants yet",
    h("p", null, "Make one and register its first ticket, or publish a routing table:"),
    commandLine("tombola tenants create acme\ntombola register FILE --tenant acme", app),
  );
}
