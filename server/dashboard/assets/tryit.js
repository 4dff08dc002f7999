// The view Try it: ask a domain something, and see the answer, the ticket that gave it, why, and where the time went.
//
// An operator's key does not ask: with one, the view wants a tenant's key too, or makes one that soon ends.

import { call } from "./api.js";
import { h } from "./dom.js";
import { percent, promised, sentence } from "./format.js";
import { commandLine, curl, empty, failed, field, fold } from "./parts.js";
import { result } from "./answer.js";

const LENT_S = 900;
const ADVICE = {
  not_found: "This port answers the control plane only: inference has a port of its own here.",
  unsupported: "This domain's tickets take tensors, not texts: ask it under /v2.",
  overloaded: "No ticket of the family could make the deadline just now.",
  not_promoted: "Promote one of its tickets first, under Families.",
  rate_limited: "The tenant has used up what its limits allow for now.",
  deadline_exceeded: "It would have taken longer than the deadline allows.",
};

/** The view. */
export function tryIt(app) {
  const { flows, viewer } = app.overview;
  const state = (app.ui.tryIt ??= {
    tenant: viewer.tenant ?? flows[0]?.tenant ?? "",
    domain: "",
    tier: "",
    text: "",
    deadline: "",
    lent: {},
    isBusy: false,
    answer: null,
    failure: null,
    asked: null,
  });
  const real = flows.filter((f) => f.policy !== null);
  const tenants = [...new Set(real.map((f) => f.tenant))];
  if (!tenants.includes(state.tenant)) state.tenant = tenants[0] ?? "";
  const domains = [...new Set(real.filter((f) => f.tenant === state.tenant).map((f) => f.domain))];
  if (!domains.includes(state.domain)) state.domain = domains[0] ?? "";
  const tiers = real.filter((f) => f.tenant === state.tenant && f.domain === state.domain);
  if (!tiers.some((f) => f.tier === state.tier)) state.tier = "";
  return [
    h("h1", { tabindex: "-1" }, "Try it"),
    domains.length
      ? h(
          "div",
          { class: "two" },
          form(app, state, { tenants, domains, tiers }),
          h("div", { class: "card", role: "region", "aria-label": "The answer" }, result(app, state)),
        )
      : empty(
          "Nothing to ask yet",
          h(
            "p",
            null,
            "There is no domain with a ticket. ",
            viewer.role === "call"
              ? "A key with the role register can send one."
              : h("a", { href: "#/register" }, "Register one"),
            ".",
          ),
        ),
  ];
}

function form(app, state, { tenants, domains, tiers }) {
  const isOperator = app.overview.viewer.tenant === null;
  const edit = (name) => (event) => {
    state[name] = event.target.value;
    app.update();
  };
  return h(
    "form",
    {
      class: "card",
      "aria-label": "What to ask",
      onsubmit: (event) => {
        event.preventDefault();
        send(app, state);
      },
    },
    isOperator &&
      field(
        { id: "try-tenant", label: "Tenant" },
        h("select", { onchange: edit("tenant") }, pick(tenants, state.tenant)),
      ),
    isOperator && tenantKey(app, state),
    h(
      "div",
      { class: "fields" },
      field(
        { id: "try-domain", label: "Domain" },
        h("select", { onchange: edit("domain") }, pick(domains, state.domain)),
      ),
      tierField(state, tiers, edit),
      field(
        { id: "try-deadline", label: "Deadline, ms" },
        h("input", {
          type: "number",
          min: "0",
          step: "any",
          inputmode: "decimal",
          placeholder: "the tier's",
          value: state.deadline,
          oninput: edit("deadline"),
        }),
      ),
    ),
    textField(state, edit),
    h(
      "div",
      { class: "row" },
      h("button", { class: "primary", disabled: state.isBusy }, state.isBusy ? "Asking…" : "Ask"),
    ),
    fold(app, "try-curl", { show: "The same from a shell", hide: "Hide the command" }, () =>
      commandLine(
        curl(state.domain, {
          text: state.text || "hello",
          tier: state.tier,
          deadlineMs: Number(state.deadline) || null,
        }),
        app,
      ),
    ),
  );
}

const pick = (names, value) =>
  names.map((name) => h("option", { key: name, value: name, selected: name === value }, name));

function tierField(state, tiers, edit) {
  const usual = tiers.find((f) => f.is_default);
  return field(
    { id: "try-tier", label: "Tier" },
    h(
      "select",
      { onchange: edit("tier") },
      h("option", { key: "", value: "", selected: state.tier === "" }, usual ? `as usual (${usual.tier})` : "as usual"),
      tiers.map((f) =>
        h(
          "option",
          { key: f.tier, value: f.tier, selected: f.tier === state.tier },
          `${f.tier}, ${promised(f.deadline_ms)}`,
        ),
      ),
    ),
  );
}

function textField(state, edit) {
  return field(
    { id: "try-text", label: "Text", hint: "Ctrl+Enter asks." },
    h("textarea", {
      rows: 4,
      maxlength: 8000,
      required: true,
      value: state.text,
      oninput: edit("text"),
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          event.target.form.requestSubmit();
        }
      },
    }),
  );
}

/** An operator's way to ask: a key of the tenant, typed or lent for a quarter of an hour. */
function tenantKey(app, state) {
  const lent = state.lent[state.tenant];
  if (lent?.key)
    return h(
      "p",
      { class: "hint" },
      lent.isMade
        ? "Asking with a key that was made for this and ends within 15 minutes."
        : "Asking with the key that you gave.",
      " ",
      h(
        "button",
        {
          class: "link",
          type: "button",
          onclick: () => {
            delete state.lent[state.tenant];
            app.update();
          },
        },
        "Use another",
      ),
    );
  return h(
    "div",
    { class: "notice" },
    h("p", null, "An operator's key does not ask. Use a key of the tenant:"),
    h(
      "div",
      { class: "row" },
      h("input", {
        type: "password",
        autocomplete: "off",
        "aria-label": `A key of ${state.tenant}`,
        placeholder: "tk_…",
        onchange: (event) => {
          const typed = event.target.value.trim();
          if (/^[\x21-\x7e]{4,200}$/.test(typed)) {
            state.lent[state.tenant] = { key: typed };
            app.update();
          }
        },
      }),
      h(
        "button",
        { type: "button", class: "small", disabled: lent?.isBusy, onclick: () => lend(app, state) },
        "Make one for 15 minutes",
      ),
    ),
    lent?.failure && failed(lent.failure, "No key was made"),
  );
}

async function lend(app, state) {
  const { tenant } = state;
  state.lent[tenant] = { isBusy: true };
  app.update();
  try {
    const made = await app.call(`v1/tenants/${encodeURIComponent(tenant)}/keys`, {
      method: "POST",
      body: { role: "call", label: "dashboard, try it", expires_in_s: LENT_S },
    });
    state.lent[tenant] = { key: made.key, isMade: true };
  } catch (failure) {
    state.lent[tenant] = { failure };
  }
  app.update();
}

async function send(app, state) {
  const isOperator = app.overview.viewer.tenant === null;
  const credential = isOperator ? state.lent[state.tenant]?.key : app.key;
  if (!credential) {
    Object.assign(state, {
      answer: null,
      failure: { message: `Give a key of ${state.tenant} first, or make one.`, code: "forbidden" },
    });
    app.update();
    return;
  }
  const deadline = Number(state.deadline);
  const body = {
    domain: state.domain,
    text: state.text,
    top_k: 5,
    ...(state.tier ? { tier: state.tier } : {}),
    ...(state.deadline !== "" && Number.isFinite(deadline) ? { deadline_ms: deadline } : {}),
  };
  Object.assign(state, { isBusy: true, failure: null });
  app.update();
  const began = performance.now();
  try {
    const answer = await call("v1/classify", { credential, method: "POST", body, patienceMs: 30_000 });
    Object.assign(state, { answer, asked: { ...body, tookMs: performance.now() - began } });
    app.say(`${answer.results[0].label}, ${percent(answer.results[0].probability)}`);
  } catch (failure) {
    if (isOperator && failure.status === 401) delete state.lent[state.tenant];
    const isWrongPort = failure.status === 404 && failure.code === "not_found";
    Object.assign(state, {
      answer: null,
      failure: {
        message:
          sentence(failure.message) +
          (ADVICE[isWrongPort ? "not_found" : failure.code]
            ? ` ${ADVICE[isWrongPort ? "not_found" : failure.code]}`
            : ""),
        code: failure.code,
      },
    });
  }
  state.isBusy = false;
  app.update();
}
