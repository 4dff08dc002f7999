// The view Events: who changed what, when, from what, to what. The newest come with every overview, older ones on demand.

import { h, classes } from "./dom.js";
import { ago, moment } from "./format.js";
import { badge, empty, failed, fold, grid } from "./parts.js";

const PAGE = 100;
const TONES = {
  "canary.roll_back": "bad",
  "ticket.roll_back": "watch",
  "ticket.promote": "good",
  "tenant.delete": "bad",
  "tenant.suspend": "bad",
  "tenant.resume": "good",
};

/** The view. */
export function events(app) {
  const { viewer, are_events_fresh: isFresh } = app.overview;
  const older = (app.ui.older ??= { known: new Map(), isEnd: false, isBusy: false, failure: null });
  for (const event of app.overview.events) older.known.set(event.id, event); // also those that newer ones push out
  const all = [...older.known.values()].sort((a, b) => b.at - a.at || compare(b.id, a.id));
  const wanted = app.ui.filter.trim().toLowerCase();
  const shown = all.filter((event) => !wanted || JSON.stringify(event).toLowerCase().includes(wanted));
  return [
    h("h1", { tabindex: "-1" }, "Events"),
    h(
      "div",
      { class: "section-head" },
      h(
        "p",
        { class: "lead" },
        viewer.tenant === null
          ? "Every change of the installation, the newest first."
          : "Every change of this tenant, the newest first.",
      ),
      h("input", {
        type: "search",
        "aria-label": "Filter by anything that stands in an event",
        placeholder: "Filter",
        value: app.ui.filter,
        oninput: (event) => app.set({ filter: event.target.value }),
      }),
    ),
    !isFresh &&
      h(
        "p",
        { class: "notice is-watch" },
        "The audit log cannot be read now, because Redis is away. These are the last events that were seen.",
      ),
    shown.length
      ? h(
          "ol",
          { class: "events" },
          shown.map((event) => line(app, event)),
        )
      : empty(
          wanted ? "No event holds that" : "No events yet",
          h(
            "p",
            null,
            "Registering a ticket, promoting one, making a key: every change stands here, with who made it.",
          ),
        ),
    older.failure && failed(older.failure, "Older events cannot be read"),
    all.length >= 50 &&
      !older.isEnd &&
      h(
        "button",
        { type: "button", disabled: older.isBusy, onclick: () => more(app, older, all.at(-1)?.id) },
        older.isBusy ? "Reading…" : "Show older ones",
      ),
  ];
}

const compare = (a, b) => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);

function line(app, event) {
  const [noun, verb] = [
    event.action.slice(0, event.action.indexOf(".")),
    event.action.slice(event.action.indexOf(".") + 1),
  ];
  const hasDetail = Object.keys(event.before).length + Object.keys(event.after).length > 0;
  return h(
    "li",
    { key: event.id, class: "event" },
    h(
      "time",
      { class: "event-at num", datetime: new Date(event.at * 1000).toISOString(), title: moment(event.at) },
      ago(event.at, app.overview.at),
    ),
    h(
      "div",
      { class: "event-what" },
      h(
        "div",
        null,
        badge(`${noun} ${verb.replaceAll("_", " ")}`, TONES[event.action] ?? "info"),
        " ",
        event.subject &&
          h(
            "code",
            { class: "id", title: event.subject },
            /^[0-9a-f]{64}$/.test(event.subject) ? event.subject.slice(0, 10) : event.subject,
          ),
        app.overview.viewer.tenant === null &&
          event.tenant !== null &&
          h("span", { class: "faint" }, ` of ${event.tenant}`),
      ),
      event.reason && h("p", { class: "event-reason" }, event.reason),
      h(
        "div",
        { class: "event-meta" },
        h(
          "span",
          { class: "faint" },
          `by ${event.actor}`,
          event.table_version !== null && ` · table ${event.table_version}`,
          ` · ${moment(event.at)}`,
        ),
        hasDetail &&
          fold(app, `event/${event.id}`, { show: "What changed", hide: "Hide what changed" }, () => difference(event)),
      ),
    ),
  );
}

function difference({ before, after }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const rows = names.map((name) => {
    const [was, is] = [before[name], after[name]].map((value) =>
      value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value),
    );
    return { key: name, className: classes(was !== is && "is-changed"), cells: [name.replaceAll("_", " "), was, is] };
  });
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "What changed" },
    grid(
      ["", "before", "after"].map((name) => name || { name: "field" }),
      rows,
      { label: "Before and after", className: "difference" },
    ),
  );
}

async function more(app, older, before) {
  const { viewer } = app.overview;
  const place = viewer.tenant === null ? "v1/events" : `v1/tenants/${encodeURIComponent(viewer.tenant)}/events`;
  older.isBusy = true;
  older.failure = null;
  app.update();
  try {
    const page = await app.call(`${place}?count=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
    for (const event of page.events) older.known.set(event.id, event);
    older.isEnd = page.next === null;
  } catch (failure) {
    older.failure = failure;
  }
  older.isBusy = false;
  app.update();
}
