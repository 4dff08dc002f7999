// The frame of the page: logging in, the head with its links, the banner while the gateway is away, the view.
//
// Owns which views there are and who sees which. What a view shows is its own module's.

import { h, classes } from "./dom.js";
import { clock, duration, sentence, span } from "./format.js";
import { failed } from "./parts.js";
import { events } from "./events.js";
import { families } from "./families.js";
import { fleet } from "./fleet.js";
import { now } from "./now.js";
import { register } from "./register.js";
import { tryIt } from "./tryit.js";

const ICON = new URL("icon.svg", import.meta.url).pathname;
const RANK = { call: 0, register: 1, admin: 2, operator: 3 };
const VIEWS = [
  { id: "now", name: "Now", show: now, from: "call" },
  { id: "families", name: "Families", show: families, from: "call" },
  { id: "fleet", name: "Fleet", show: fleet, from: "operator" },
  { id: "events", name: "Events", show: events, from: "register" },
  { id: "register", name: "Register", show: register, from: "register" },
  { id: "try", name: "Try it", show: tryIt, from: "call" },
];

/** Whether the viewer's role includes `role`. */
export const may = (app, role) => RANK[app.overview?.viewer.role] >= RANK[role];

const current = (app) => VIEWS.find((view) => view.id === app.route[0] && may(app, view.from)) ?? VIEWS[0];

/** What the tab is called: how many problems there are, and the view. */
export function title(app) {
  if (!app.overview) return "Tombola";
  const problems = app.overview.problems.length;
  return `${problems ? `(${problems}) ` : ""}${current(app).name} · Tombola`;
}

/** The whole page. */
export function page(app) {
  if (!app.overview) return app.key && !app.isEntering ? waiting(app) : login(app);
  const view = current(app);
  return [
    h(
      "button",
      { class: "skip", type: "button", onclick: () => document.querySelector("h1")?.focus() },
      "Skip to the content",
    ),
    head(app, view),
    app.failure && banner(app),
    h("main", { id: "main", key: view.id, class: `view view-${view.id}` }, view.show(app)),
    foot(app),
  ];
}

function head(app, view) {
  const { viewer } = app.overview;
  return h(
    "header",
    { class: "head" },
    h(
      "a",
      { class: "brand", href: "#/now", "aria-label": "Tombola, to the start" },
      h("img", { src: ICON, alt: "", width: 24, height: 24 }),
      h("span", null, "Tombola"),
    ),
    h(
      "nav",
      { class: "nav", "aria-label": "Views" },
      VIEWS.filter((v) => may(app, v.from)).map((v) =>
        h("a", { key: v.id, href: `#/${v.id}`, "aria-current": v === view ? "page" : null }, v.name),
      ),
    ),
    h(
      "div",
      { class: "head-side" },
      choice(
        "Window",
        app.windows.map((s) => [s, s < 100 ? "1 min" : `${s / 60} min`]),
        app.windowS,
        (s) => app.chooseWindow(Number(s)),
      ),
      themeChoice(app),
      h(
        "div",
        { class: "who" },
        h("b", { title: viewer.tenant ?? "Operator of the installation" }, viewer.tenant ?? "Operator"),
        h("span", { class: "faint" }, viewer.tenant === null ? "all tenants" : `role ${viewer.role}`),
      ),
      h("button", { class: "small", type: "button", onclick: () => app.logOut() }, "Log out"),
    ),
  );
}

function choice(label, options, value, choose) {
  return h(
    "label",
    { class: "choice" },
    h("span", { class: "unseen" }, label),
    h(
      "select",
      { value, onchange: (event) => choose(event.target.value) },
      options.map(([id, name]) => h("option", { value: id, selected: String(id) === String(value) }, name)),
    ),
  );
}

function themeChoice(app) {
  const themes = [
    ["auto", "Auto"],
    ["light", "Light"],
    ["dark", "Dark"],
  ];
  return choice("Colours", themes, window.tombolaTheme.get(), (wanted) => {
    window.tombolaTheme.set(wanted);
    app.update();
  });
}

function banner(app) {
  const left = Math.max(0, Math.ceil((app.nextTryAt - Date.now()) / 1000));
  return h(
    "div",
    { class: "banner", role: "alert" },
    h(
      "span",
      null,
      h("strong", null, sentence(app.failure.message)),
      ` Showing what was seen at ${clock(app.overview.at)}. `,
    ),
    h("span", { class: "num", "aria-hidden": "true" }, left ? `Trying again in ${duration(left)}.` : "Trying now."),
    h("button", { class: "small", type: "button", onclick: () => app.refresh() }, "Try now"),
  );
}

function foot(app) {
  const { version, covered_s: covered, sample_s: every, window_s: wanted, control } = app.overview;
  return h(
    "footer",
    { class: "foot" },
    h(
      "span",
      null,
      covered
        ? `The last ${span(Math.min(covered, wanted))}, sampled every ${duration(every)}.`
        : "The history begins now.",
    ),
    h("span", { class: "num" }, `Seen at ${clock(app.overview.at)}`),
    control.table_version !== null && h("span", { class: "num" }, `Table ${control.table_version}`),
    h("span", null, `Tombola ${version}`),
    h("a", { href: "docs" }, "API"),
  );
}

function waiting(app) {
  return h(
    "main",
    { id: "main", class: "gate" },
    h("h1", { tabindex: "-1" }, app.failure ? "The gateway is away" : "One moment"),
    app.failure
      ? [
          failed(app.failure, "No answer"),
          h(
            "div",
            { class: "row" },
            h("button", { type: "button", onclick: () => app.refresh() }, "Try now"),
            h("button", { class: "link", type: "button", onclick: () => app.logOut() }, "Use another key"),
          ),
        ]
      : h("p", { class: "faint" }, "Asking the gateway for its overview."),
  );
}

const HELP = {
  unauthorized: "Check that it was copied whole: a key begins with tk_. It may also have expired or been revoked.",
  suspended: "The operators of this installation have suspended this tenant. They can let it go on.",
  not_ready: "The gateway has only just started. Try again in a moment.",
  unreachable: "Is the address right, and is the gateway up? On its machine, `tombola up` starts it.",
};

function login(app) {
  const wrong = app.loginFailure;
  const enter = (event) => {
    event.preventDefault();
    const typed = event.target.elements.key.value.trim();
    if (/^[\x21-\x7e]{4,200}$/.test(typed)) app.logIn(typed);
    else {
      app.loginFailure = { message: "That is not an API key.", code: "unauthorized" };
      app.update();
    }
  };
  return h(
    "main",
    { id: "main", class: "gate", key: "login" },
    h("img", { src: ICON, alt: "", width: 48, height: 48 }),
    h("h1", { tabindex: "-1" }, "Tombola"),
    h("p", { class: "faint" }, "A tenant's key shows that tenant's part, an operator's key the whole installation."),
    h(
      "form",
      { onsubmit: enter, class: "gate-form" },
      h("label", { for: "key" }, "API key"),
      h("input", {
        id: "key",
        name: "key",
        type: "password",
        autocomplete: "off",
        spellcheck: "false",
        required: true,
        placeholder: "tk_…",
        "aria-invalid": wrong ? "true" : null,
        "aria-describedby": wrong ? "key-wrong" : "key-hint",
        ref: (node) => queueMicrotask(() => node.focus()),
      }),
      wrong &&
        h(
          "div",
          { id: "key-wrong", class: "notice is-bad", role: "alert" },
          h("strong", null, sentence(wrong.message)),
          HELP[wrong.code] && ` ${HELP[wrong.code]}`,
        ),
      h(
        "button",
        { class: classes("primary", app.isEntering && "is-busy"), disabled: app.isEntering },
        app.isEntering ? "Asking…" : "Log in",
      ),
    ),
    h(
      "p",
      { id: "key-hint", class: "hint" },
      "The key stays in this tab and ends with it. ",
      h("code", null, "tombola up"),
      " writes an operator's key to ",
      h("code", null, ".tombola/operator.key"),
      " and a tenant's to ",
      h("code", null, ".tombola/demo.key"),
      ".",
    ),
  );
}
