// One upload at the gate: how much has left, the steps as they end, why it was refused, what the report says, what next.
//
// Owns the look of it. The upload itself is `register.js`'s, moving the ticket on `moves.js`'s.

import { Failure } from "./api.js";
import { h } from "./dom.js";
import { bytes, count, ms, number, percent, sentence, share } from "./format.js";
import { badge, failed, fold, grid, stateBadge, ticketId } from "./parts.js";
import { ask, movedTo } from "./moves.js";

/** The gate's steps, in their order. */
export const STEPS = {
  size: "Its size, and the tenant's quota",
  integrity: "Every member is what its digest says",
  signature: "Signed by someone the tenant trusts",
  manifest: "What it says of itself is possible",
  graph: "The graph opens, confined",
  samples: "It answers its own samples as it claims",
  profile: "How fast it is here, and how large",
  evidence: "As good as it claims",
  policy: "Good enough for this tenant",
  commit: "Into the registry and the table",
};
const TONES = { passed: "good", refused: "bad", skipped: "off" };
const ADVICE = {
  ticket_quota_exceeded: "Retire tickets that nobody needs, or ask the operators for a larger quota.",
  too_large: "The bundle is over the size that this installation takes.",
  control_plane_unavailable: "Nothing can be registered while Redis is away. Try again when the banner is gone.",
  overloaded: "Others are at the gate. Try again in a few seconds.",
  forbidden: "This needs a key with the role register.",
  conflict: "Look at the domain's tickets, then decide.",
};

/** The card of `state.job`. */
export function job(app, state) {
  const { job: one } = state;
  const report = one.answer?.report ?? one.failure?.body?.report ?? null;
  const steps = report?.steps?.length > one.steps.length ? report.steps : one.steps; // a refusal at once has no lines
  const isSent = one.sent >= one.size;
  return [
    h("h2", null, one.name, " ", h("span", { class: "faint" }, `${bytes(one.size)} for ${one.tenant}`)),
    one.isBusy &&
      !isSent &&
      h(
        "div",
        { class: "row" },
        h("progress", { value: one.sent, max: one.size, "aria-label": "Sent" }),
        h("span", { class: "num" }, share(one.sent / one.size)),
      ),
    one.failure && refused(one.failure),
    one.answer && accepted(app, state, one),
    stepList(steps, one.isBusy && isSent),
    report && fold(app, "report", { show: "Show the report", hide: "Hide the report" }, () => facts(report)),
    h(
      "div",
      { class: "row" },
      one.isBusy
        ? h("button", { type: "button", onclick: one.abort }, "Give up")
        : h(
            "button",
            {
              type: "button",
              onclick: () => {
                state.job = null;
                app.update();
              },
            },
            "Register another",
          ),
    ),
  ];
}

function stepList(steps, isAtWork) {
  return h(
    "ol",
    { class: "steps", "aria-label": "The gate's steps" },
    steps.map((step) =>
      h(
        "li",
        { key: step.name, class: "step" },
        badge(step.name, TONES[step.status] ?? "off", step.status),
        h("span", null, step.status !== "passed" && h("b", null, `${step.status}. `), step.detail || STEPS[step.name]),
        h("span", { class: "num faint" }, ms(step.ms)),
      ),
    ),
    isAtWork &&
      h(
        "li",
        { key: "busy", class: "step" },
        h("span", { class: "badge is-info" }, h("span", { class: "spinner", "aria-hidden": "true" }), "at the gate"),
        h("span", { class: "faint" }, nextStep(steps)),
      ),
  );
}

function nextStep(steps) {
  const names = Object.keys(STEPS);
  return STEPS[names[steps.length ? names.indexOf(steps.at(-1).name) + 1 : 0]] ?? "";
}

function refused(failure) {
  if (!(failure instanceof Failure) || failure.code !== "refused") {
    return failed(
      {
        ...failure,
        message: `${sentence(failure.message)}${ADVICE[failure.code] ? ` ${ADVICE[failure.code]}` : ""}`,
        code: failure.code,
      },
      "Not registered",
    );
  }
  return h(
    "div",
    { class: "notice is-bad", role: "alert" },
    h("strong", null, `Refused at ${failure.body?.step || "the gate"}. `),
    sentence(failure.message),
    failure.body?.refusal && h("span", { class: "faint" }, ` (${failure.body.refusal})`),
  );
}

function accepted(app, state, one) {
  const { answer } = one;
  const family = { used_by: [{ tenant: one.tenant, domain: answer.domain }] };
  const row = { ticket: answer.ticket, tier: answer.tier };
  const now =
    movedTo(app, answer.ticket) ??
    app.overview.families
      .filter((f) => f.used_by.some((use) => use.tenant === one.tenant && use.domain === answer.domain))
      .flatMap((f) => f.tickets)
      .find((t) => t.ticket === answer.ticket)?.state ??
    answer.state;
  const mayMove = ["admin", "operator"].includes(app.overview.viewer.role);
  return h(
    "div",
    { class: "notice is-good" },
    h(
      "div",
      null,
      h("strong", null, "Registered: "),
      ticketId(answer.ticket),
      ` in ${answer.domain}, tier ${answer.tier} `,
      stateBadge(now),
    ),
    now === "registered" &&
      h(
        "p",
        null,
        mayMove
          ? "It answers only who names it, until it has a share of the requests:"
          : "It answers only who names it. An admin's key can give it requests.",
      ),
    mayMove &&
      now === "registered" &&
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", class: "primary", onclick: () => ask(app, "promote", family, row) }, "Promote…"),
        h("button", { type: "button", onclick: () => ask(app, "canary", family, row) }, "Start a canary…"),
      ),
    now !== "registered" && h("p", null, h("a", { href: "#/families" }, "See its family")),
  );
}

function facts(report) {
  const rows = [
    ["ticket", report.ticket],
    ["bundle", bytes(report.bytes)],
    ...(report.accepted
      ? [
          ["quality", percent(report.quality)],
          ["one text here", ms(report.service_ms)],
          ["in memory", bytes(report.resident_bytes)],
        ]
      : []),
    ["kept from", (report.confinement ?? []).join("; ") || "–"],
    ...(report.steps ?? []).flatMap((step) =>
      Object.entries(step.facts ?? {}).map(([name, value]) => [
        `${step.name}: ${name.replaceAll("_", " ")}`,
        told(value),
      ]),
    ),
  ];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "The report" },
    grid(["fact", "value"], rows, { label: "The report" }),
  );
}

const told = (value) =>
  typeof value === "number"
    ? Number.isInteger(value)
      ? count(value)
      : number(value)
    : typeof value === "string"
      ? value
      : JSON.stringify(value);
