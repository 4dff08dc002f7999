// Moving a ticket on: canary, promote, withdraw, retire, and rolling a domain back. Each asks first and says what it does.
//
// Owns the buttons, the questions and the calls. Which moves are legal is the gateway's to say: what it answers is shown.

import { h, classes } from "./dom.js";
import { short } from "./format.js";
import { dialog, failed, field } from "./parts.js";

const MOVES = {
  canary: {
    name: "Canary",
    ask: "Try it as a canary",
    go: "Start the canary",
    done: "The canary has begun.",
    says: (t) =>
      `${t.tier} ${short(t.ticket)} answers a share of the requests of its tier, beside the promoted ticket. It is rolled back by itself if it proves worse.`,
  },
  promote: {
    name: "Promote",
    ask: "Promote it",
    go: "Promote",
    done: "It is promoted.",
    says: (t) =>
      `${t.tier} ${short(t.ticket)} gets the requests of its tier; the ticket that had them stays registered, so that a rollback brings it back.`,
  },
  withdraw: {
    name: "Withdraw",
    ask: "End its trial",
    go: "Withdraw",
    done: "The canary has ended.",
    says: (t) => `${t.tier} ${short(t.ticket)} is registered again and answers only who names it.`,
  },
  retire: {
    name: "Retire",
    ask: "Retire it for good",
    go: "Retire",
    done: "It is retired.",
    isGrave: true,
    says: (t) =>
      `${t.tier} ${short(t.ticket)} leaves the table: nobody can ask it any more. It may be registered again.`,
  },
  rollback: {
    name: "Roll back",
    ask: "Roll the domain back",
    go: "Roll back",
    done: "The domain is rolled back.",
    says: () =>
      "What stood in the domain before its latest promotion comes back. Again and again: further and further back.",
  },
};
const OF_STATE = {
  registered: ["promote", "canary", "retire"],
  canary: ["promote", "withdraw", "retire"],
  promoted: [],
};

const CATCH_UP_MS = 5000; // an overview may be two seconds old, and other gateways learn of a move a little later

/** The state that a ticket has just been moved to, until overviews say so too; else null. */
export const movedTo = (app, ticket) =>
  app.ui.moved?.ticket === ticket && Date.now() < app.ui.moved.until ? app.ui.moved.state : null;

const mayMove = (app) => ["admin", "operator"].includes(app.overview.viewer.role);

/** The buttons of one ticket. */
export function moveButtons(app, family, t) {
  if (!family.used_by.length) return null;
  return h(
    "div",
    { class: "moves" },
    OF_STATE[t.state].map((move) =>
      h(
        "button",
        {
          key: move,
          type: "button",
          class: classes("link", MOVES[move].isGrave && "is-grave"),
          "aria-label": `${MOVES[move].name} ${t.tier} ${short(t.ticket)}`,
          onclick: () => ask(app, move, family, t),
        },
        MOVES[move].name,
      ),
    ),
  );
}

/** Back to what stood before; only where a promotion has replaced something. */
export function rollBackButton(app, family) {
  if (!mayMove(app) || !family.used_by.length || !family.tickets.some((t) => t.replaces.length)) return null;
  return h(
    "button",
    { class: "small", type: "button", onclick: () => ask(app, "rollback", family, null) },
    "Roll back…",
  );
}

/** Ask before a move is made. `t` is a ticket's row; `family` says in `used_by` where the move can be made. */
export function ask(app, move, family, t) {
  app.set({ dialog: { move, family, t, failure: null, isBusy: false } });
}

/** The question that is open, if any: a view shows it at its end. */
export function moveDialog(app) {
  const open = app.ui.dialog;
  if (!open) return null;
  const words = MOVES[open.move];
  const close = () => {
    if (app.ui.dialog === open) app.set({ dialog: null });
  };
  return dialog(
    { title: words.ask, onclose: close },
    h(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          go(app, open, new FormData(event.target));
        },
      },
      h("p", null, words.says(open.t, open.family)),
      where(app, open),
      open.move === "canary" && canaryFields(),
      open.move === "promote" &&
        field(
          { id: "move-deadline", label: "New deadline in ms", hint: "Empty: the tier promises what it did." },
          h("input", {
            name: "deadline_ms",
            type: "number",
            min: "0.1",
            max: "600000",
            step: "any",
            inputmode: "decimal",
          }),
        ),
      open.move !== "canary" &&
        field(
          { id: "move-reason", label: "Reason", hint: "Stands in the audit log." },
          h("input", { name: "reason", maxlength: 2000 }),
        ),
      open.failure && failed(open.failure),
      h(
        "div",
        { class: "row" },
        h(
          "button",
          { class: classes("primary", words.isGrave && "is-grave"), disabled: open.isBusy },
          open.isBusy ? "One moment…" : words.go,
        ),
        h("button", { type: "button", onclick: close }, "Cancel"),
      ),
    ),
  );
}

/** In which domain: asked only where there are several. */
function where(app, { family }) {
  const names = family.used_by.map((use) =>
    app.overview.viewer.tenant === null ? `${use.tenant} / ${use.domain}` : use.domain,
  );
  if (names.length === 1) return h("p", { class: "faint" }, `In ${names[0]}.`);
  return field(
    { id: "move-where", label: "Domain" },
    h(
      "select",
      { name: "where" },
      names.map((name, i) => h("option", { key: name, value: i }, name)),
    ),
  );
}

function canaryFields() {
  return [
    field(
      { id: "move-share", label: "Share of the requests, in %" },
      h("input", { name: "share", type: "number", min: "0.1", max: "100", step: "any", value: "10", required: true }),
    ),
    field(
      { id: "move-mode", label: "Mode" },
      h(
        "select",
        { name: "mode" },
        h("option", { value: "canary" }, "canary: it answers them"),
        h("option", { value: "shadow" }, "shadow: asked too, nobody sees its answers"),
      ),
    ),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: "is_automatic" }),
      "Promote it by itself once it has proven good",
    ),
  ];
}

function bodyOf({ move }, domain, form) {
  const reason = String(form.get("reason") ?? "").trim();
  if (move === "rollback") return reason ? { reason } : {};
  if (move === "canary")
    return {
      domain,
      share: Number(form.get("share")) / 100,
      mode: form.get("mode"),
      is_automatic: form.get("is_automatic") !== null,
    };
  const deadline = String(form.get("deadline_ms") ?? "").trim();
  return { domain, ...(reason ? { reason } : {}), ...(deadline ? { deadline_ms: Number(deadline) } : {}) };
}

async function go(app, open, form) {
  const { move, family, t } = open;
  const use = family.used_by[Number(form.get("where") ?? 0)];
  const tenant = `v1/tenants/${encodeURIComponent(use.tenant)}`;
  const path =
    move === "rollback"
      ? `${tenant}/domains/${encodeURIComponent(use.domain)}/rollback`
      : `${tenant}/tickets/${t.ticket}/${move}`;
  open.isBusy = true;
  open.failure = null;
  app.update();
  try {
    const answer = await app.call(path, { method: "POST", body: bodyOf(open, use.domain, form) });
    if (answer?.state) app.ui.moved = { ticket: answer.ticket, state: answer.state, until: Date.now() + CATCH_UP_MS };
    app.say(MOVES[move].done, true);
    app.set({ dialog: null });
    app.refresh();
  } catch (failure) {
    open.failure = failure;
    open.isBusy = false;
    app.update();
  }
}
