// The view Families: what each domain's tickets are worth, what they cost, who answers now, and how a canary stands.
//
// The plot is `pareto.js`'s, moving a ticket on `moves.js`'s.

import { h, classes } from "./dom.js";
import { ago, bytes, count, ms, number, percent, plural, rate, share, span } from "./format.js";
import { badge, commandLine, empty, stateBadge, ticketId, bar } from "./parts.js";
import { moveButtons, moveDialog, rollBackButton } from "./moves.js";
import { pareto } from "./pareto.js";

const POLICIES = {
  best: "the best that makes the deadline",
  tier: "nothing dearer than the tier's own",
  cascade: "the small one where it is sure, else the large one",
};

/** The view. */
export function families(app) {
  const { families: found, viewer } = app.overview;
  const wanted = app.ui.filter.trim().toLowerCase();
  const shown = found.filter(
    (f) =>
      !wanted ||
      [f.family, ...f.used_by.flatMap((use) => [use.tenant, use.domain])].join(" ").toLowerCase().includes(wanted),
  );
  return [
    h("h1", { tabindex: "-1" }, "Families", h("span", { class: "h1-note" }, `the last ${span(app.overview.window_s)}`)),
    h(
      "div",
      { class: "section-head" },
      h(
        "p",
        { class: "lead" },
        "Tickets of one backbone and one domain, from the dearest to the cheapest. The larger a bubble, the more of the traffic it answers now.",
      ),
      found.length > 3 &&
        h("input", {
          type: "search",
          "aria-label": "Filter by family, tenant or domain",
          placeholder: "Filter",
          value: app.ui.filter,
          oninput: (event) => app.set({ filter: event.target.value }),
        }),
    ),
    shown.map((family) => card(app, family)),
    !found.length &&
      empty(
        "No tickets yet",
        h(
          "p",
          null,
          "A family begins with its first ticket. ",
          viewer.role === "call"
            ? "This key may only ask; a key with the role register can send one."
            : h("a", { href: "#/register" }, "Register one"),
          ".",
        ),
        commandLine(`tombola register FILE --tenant ${viewer.tenant ?? "acme"}`, app),
      ),
    found.length > 0 && !shown.length && h("p", { class: "faint" }, "Nothing has that name."),
    moveDialog(app),
  ];
}

function card(app, family) {
  const isOperator = app.overview.viewer.tenant === null;
  const width = Math.max(250, Math.min(500, document.documentElement.clientWidth - 64));
  const canaries = family.tickets.flatMap((t) => t.canaries.map((canary) => standing(app, t, canary)));
  return h(
    "article",
    { class: "card", key: family.family, "aria-label": `Family ${family.family}` },
    h(
      "div",
      { class: "section-head" },
      h("h2", null, family.family),
      family.is_shared && badge(isOperator ? "shared" : "given by the operators", "off"),
      h("span", { class: "faint" }, uses(family, isOperator)),
      rollBackButton(app, family),
    ),
    family.tickets.length === 0
      ? h("p", { class: "faint" }, "No tickets.")
      : h(
          "div",
          { class: "family" },
          h("div", null, pareto(family, width), legend()),
          h("div", { class: "family-side" }, canaries, ticketTable(app, family)),
        ),
  );
}

/** Who uses a family, and by which policy: the first few. */
function uses(family, isOperator) {
  if (!family.used_by.length) return "used by nobody";
  const said = family.used_by
    .slice(0, 3)
    .map((use) => `${isOperator ? `${use.tenant} / ` : ""}${use.domain}: ${POLICIES[use.policy] ?? use.policy}`);
  return said.join("; ") + (family.used_by.length > 3 ? `; and ${plural(family.used_by.length - 3, "other")}` : "");
}

function legend() {
  const entry = (kind, words) =>
    h(
      "li",
      null,
      h(
        "svg",
        { class: "legend-mark", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
        h(
          "g",
          { class: `bubble is-${kind}` },
          kind === "canary" ? h("path", { d: "M8 1L15 8L8 15L1 8Z" }) : h("circle", { cx: 8, cy: 8, r: 6 }),
        ),
      ),
      words,
    );
  return h(
    "ul",
    { class: "legend" },
    entry("promoted", "promoted"),
    entry("canary", "canary"),
    entry("registered", "registered, answers only who names it"),
  );
}

function ticketTable(app, family) {
  const hasDrift = family.tickets.some((t) => Object.keys(t.drift).length);
  const columns = [
    ["Ticket"],
    ["Quality", "num"],
    ["One text", "num"],
    ["Now", "num"],
    ["p99", "num mid-only"],
    ["Kept", "num mid-only"],
    hasDrift && ["Drift", "wide-only"],
    ["In memory", "num roomy-only"],
  ];
  return h(
    "table",
    { class: "grid tickets", "aria-label": `Tickets of ${family.family}` },
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        columns.filter(Boolean).map(([name, kind]) => h("th", { scope: "col", class: kind }, name)),
      ),
    ),
    h(
      "tbody",
      null,
      family.tickets.map((t) => ticketLine(app, family, t, hasDrift)),
    ),
  );
}

function ticketLine(app, family, t, hasDrift) {
  const hasMoves = ["admin", "operator"].includes(app.overview.viewer.role);
  return h(
    "tr",
    { key: t.ticket },
    h(
      "th",
      { scope: "row" },
      h("span", { class: "ticket-tier" }, t.tier),
      " ",
      stateBadge(t.state),
      h("div", null, ticketId(t.ticket), t.bytes !== null && h("span", { class: "faint" }, ` · ${bytes(t.bytes)}`)),
      hasMoves && moveButtons(app, family, t),
    ),
    h("td", { class: "num" }, percent(t.quality)),
    h("td", { class: "num" }, ms(t.service_ms)),
    h("td", { class: "num" }, share(t.share), h("div", { class: "faint" }, rate(t.rate_per_s))),
    h("td", { class: "num mid-only", title: t.is_yours ? null : "Others use it too: not told" }, ms(t.p99_ms)),
    h("td", { class: "num mid-only" }, percent(t.sla?.attainment)),
    hasDrift && h("td", { class: "wide-only" }, drift(t.drift)),
    h(
      "td",
      {
        class: "num roomy-only",
        title: t.prediction_ratio === null ? null : `Actual over predicted time: ${number(t.prediction_ratio)}`,
      },
      bytes(t.resident_bytes),
    ),
  );
}

/** The kind that has drifted furthest from what it was at registration: population stability index, 0.1 and 0.25. */
function drift(kinds) {
  const [worst] = Object.entries(kinds).sort((a, b) => b[1] - a[1]);
  if (!worst) return "";
  const [kind, index] = worst;
  const all = Object.entries(kinds)
    .map(([name, value]) => `${name} ${number(value)}`)
    .join(", ");
  return badge(
    index >= 0.1 ? `${kind} ${number(index)}` : "none",
    index >= 0.25 ? "bad" : index >= 0.1 ? "watch" : "good",
    `Population stability index: ${all}`,
  );
}

const OUTCOMES = { running: ["on trial", "info"], passed: ["passed", "good"], bad: ["worse", "bad"] };

function standing(app, t, c) {
  const [word, tone] = OUTCOMES[c.outcome] ?? ["how it stands is not known", "off"];
  const isShadow = c.mode === "shadow";
  return h(
    "div",
    { class: classes("canary", c.outcome === "bad" && "is-bad"), key: `canary-${t.ticket}-${c.tenant}-${c.domain}` },
    h(
      "div",
      null,
      badge(`Canary: ${word}`, tone),
      " ",
      ticketId(t.ticket),
      isShadow ? ` is asked beside ` : ` answers ${share(c.share)} in place of `,
      ticketId(c.current),
      isShadow && ` on ${share(c.share)}, and nobody sees what it says`,
      h(
        "span",
        { class: "faint" },
        ` · ${app.overview.viewer.tenant === null ? `${c.tenant} / ` : ""}${c.domain} · since ${ago(c.started_at, app.overview.at)}`,
        c.is_automatic && " · promoted by itself once proven",
      ),
    ),
    c.words && h("p", null, c.words),
    h(
      "p",
      { class: "faint num" },
      `${plural(c.asks, "ask")} · ${count(c.errors)} failed · ${count(c.late)} late`,
      c.agreement !== null && [" · both say the same on ", percent(c.agreement), " ", bar(c.agreement)],
    ),
  );
}
