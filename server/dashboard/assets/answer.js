// An answer as the view Try it shows it: the label, the ticket that gave it, why, and where the time went.

import { h } from "./dom.js";
import { ms, number, percent, promised } from "./format.js";
import { badge, bar, failed, ticketId } from "./parts.js";
import { stack } from "./charts.js";

/** The card of the latest answer, or why there is none. */
export function result(app, state) {
  if (state.failure) return [h("h2", null, "No answer"), failed(state.failure, "It was not answered")];
  if (!state.answer)
    return [
      h("h2", null, "The answer"),
      h("p", { class: "faint" }, "Ask something. The answer says which ticket gave it, and why that one."),
    ];
  const { answer, asked } = state;
  const [first] = answer.results;
  const t = answer.timings_ms;
  const rest = Math.max(0, t.total - t.queue - t.run);
  const deadline =
    asked.deadline_ms ??
    app.overview.flows.find((f) => f.tenant === state.tenant && f.domain === answer.domain && f.tier === answer.tier)
      ?.deadline_ms ??
    null;
  return [
    h(
      "h2",
      { class: "answer" },
      first.label,
      " ",
      first.in_scope ? badge("in scope", "good") : badge("out of scope", "watch"),
    ),
    h("p", { class: "faint asked" }, `“${asked.text.length > 200 ? `${asked.text.slice(0, 200)}…` : asked.text}”`),
    labels(first),
    h(
      "dl",
      { class: "facts" },
      fact("Ticket", [ticketId(answer.ticket), ` for tier ${answer.tier}`]),
      fact("Why", answer.because),
      fact("In-scope score", number(first.in_scope_score)),
      answer.parent && fact("Dense parent", ticketId(answer.parent)),
    ),
    h("h3", null, "Where the time went"),
    stack(
      [
        { name: "queue", value: t.queue, kind: 3 },
        { name: "run", value: t.run, kind: 0 },
        { name: "gateway and hop", value: rest, kind: 2 },
      ],
      { label: `${ms(t.total)} in the gateway`, format: ms },
    ),
    h(
      "p",
      { class: "faint num" },
      `${ms(t.total)} in the gateway, ${ms(t.predicted)} predicted${deadline ? `, ${promised(deadline)} allowed` : ""} · ${ms(asked.tookMs)} seen from here · request ${answer.request_id}`,
    ),
  ];
}

function labels(first) {
  return h(
    "table",
    { class: "grid labels", "aria-label": "The best labels" },
    h(
      "thead",
      { class: "unseen" },
      h(
        "tr",
        null,
        h("th", { scope: "col" }, "label"),
        h("th", { scope: "col" }, "probability"),
        h("th", { scope: "col" }, "as a bar"),
      ),
    ),
    h(
      "tbody",
      null,
      (first.top ?? [first]).map((l) =>
        h(
          "tr",
          { key: l.label },
          h("th", { scope: "row" }, l.label),
          h("td", { class: "num" }, percent(l.probability)),
          h("td", null, bar(l.probability)),
        ),
      ),
    ),
  );
}

const fact = (name, value) => h("div", { class: "fact" }, h("dt", null, name), h("dd", null, value));
