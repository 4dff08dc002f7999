// The view Register: a bundle goes in by drag or by choice, the gate's steps come out one by one, the report at the end.
//
// Owns the form, and one upload at a time; how that one is shown is `gate.js`'s, what the gate looks for docs/gate.md's.

import { upload } from "./api.js";
import { h, classes } from "./dom.js";
import { badge, commandLine, field, fold } from "./parts.js";
import { job, STEPS } from "./gate.js";
import { moveDialog } from "./moves.js";

const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/;
const NAMES = "a-z, 0-9, '_', '.' and '-', beginning with a letter or digit";

/** The view. */
export function register(app) {
  const { viewer, tenants } = app.overview;
  const state = (app.ui.register ??= {
    tenant: viewer.tenant ?? tenants[0]?.tenant ?? "",
    domain: "",
    tier: "",
    signature: "",
    job: null,
    wrong: null,
    isOver: false,
  });
  const isBusy = state.job !== null && state.job.isBusy;
  const edit = (name) => (event) => {
    state[name] = event.target.value.trim();
    app.update();
  };
  return [
    h("h1", { tabindex: "-1" }, "Register a ticket"),
    h(
      "p",
      { class: "lead" },
      "A bundle (",
      h("code", null, ".ticket"),
      ") is examined in a confined process before the table may name it. A refused one leaves nothing behind.",
    ),
    h(
      "div",
      { class: "two" },
      h(
        "form",
        { class: "card", onsubmit: (event) => event.preventDefault(), "aria-label": "What to register, and where" },
        viewer.tenant === null &&
          field(
            { id: "register-tenant", label: "Tenant" },
            h(
              "select",
              { onchange: edit("tenant"), disabled: isBusy },
              tenants.map((t) =>
                h("option", { key: t.tenant, value: t.tenant, selected: t.tenant === state.tenant }, t.tenant),
              ),
            ),
          ),
        dropZone(app, state, isBusy),
        state.wrong && h("div", { class: "notice is-bad", role: "alert" }, state.wrong),
        fold(app, "register-more", { show: "Another domain or tier, a signature", hide: "Hide these" }, () =>
          further(state, edit, isBusy),
        ),
      ),
      h(
        "div",
        { class: "card", "aria-label": "What the gate found", role: "region" },
        state.job ? job(app, state) : waitingRoom(app, state),
      ),
    ),
    moveDialog(app),
  ];
}

/** What most registrations leave to the manifest. */
function further(state, edit, isBusy) {
  const text = (name) =>
    h("input", { value: state[name], oninput: edit(name), disabled: isBusy, autocomplete: "off", spellcheck: "false" });
  const named = (name) => (state[name] && !NAME.test(state[name]) ? NAMES : null);
  const hint = "Empty: the one that its manifest names.";
  const signature = "<signer>:<base64>, as `tombola sign` prints it. Only where the tenant requires one.";
  return [
    field({ id: "register-domain", label: "Domain", hint, wrong: named("domain") }, text("domain")),
    field({ id: "register-tier", label: "Tier", hint, wrong: named("tier") }, text("tier")),
    field({ id: "register-signature", label: "Signature", hint: signature }, text("signature")),
  ];
}

function dropZone(app, state, isBusy) {
  const over = (isOver) => (event) => {
    event.preventDefault();
    if (state.isOver !== isOver) {
      state.isOver = isOver;
      app.update();
    }
  };
  const drop = (event) => {
    event.preventDefault();
    state.isOver = false;
    const files = [...event.dataTransfer.files];
    if (files.length === 1) send(app, state, files[0]);
    else
      app.set({
        register: Object.assign(state, {
          wrong: files.length ? "One bundle at a time, please." : "That is not a file.",
        }),
      });
  };
  return h(
    "div",
    {
      class: classes("drop", state.isOver && "is-over", isBusy && "is-busy"),
      ondragover: over(true),
      ondragleave: over(false),
      ondrop: isBusy ? (e) => e.preventDefault() : drop,
    },
    h("p", null, isBusy ? "One at a time: this one is at the gate." : "Drop a bundle here"),
    h("label", { class: classes("button primary", isBusy && "is-disabled"), for: "register-file" }, "Choose a file"),
    h("input", {
      id: "register-file",
      class: "unseen",
      type: "file",
      accept: ".ticket",
      disabled: isBusy,
      onchange: (event) => {
        const [file] = event.target.files;
        event.target.value = ""; // so that the same file can be chosen again
        if (file) send(app, state, file);
      },
    }),
  );
}

function waitingRoom(app, state) {
  return [
    h("h2", null, "What the gate looks at"),
    h(
      "ol",
      { class: "steps" },
      Object.entries(STEPS).map(([name, words]) =>
        h("li", { key: name, class: "step" }, badge(name, "off"), h("span", { class: "faint" }, words)),
      ),
    ),
    h("p", { class: "hint" }, "An ONNX model of your own is packed and registered by the command line:"),
    commandLine(`tombola register FILE --tenant ${state.tenant || "acme"}`, app),
  ];
}

/** Why a file cannot be sent; null where it can. */
function obstacle(state, file) {
  if (!state.tenant) return "There is no tenant to register it for.";
  if (file.size === 0) return `${file.name} is empty.`;
  if ([state.domain, state.tier].some((name) => name && !NAME.test(name)))
    return "Correct the domain or the tier first.";
  return state.signature && !/^[\x21-\x7e]+$/.test(state.signature)
    ? "A signature is <signer>:<base64>, without blanks."
    : null;
}

/** Where a registration goes. */
function address({ tenant, domain, tier }) {
  const where = new URLSearchParams({ ...(domain && { domain }), ...(tier && { tier }) }).toString();
  return `v1/tenants/${encodeURIComponent(tenant)}/tickets${where && `?${where}`}`;
}

function send(app, state, file) {
  if (state.job?.isBusy) return;
  const wrong = obstacle(state, file);
  state.wrong = wrong;
  if (wrong) {
    app.update();
    return;
  }
  const found = {
    name: file.name,
    size: file.size,
    tenant: state.tenant,
    sent: 0,
    steps: [],
    isBusy: true,
    failure: null,
    answer: null,
  };
  const running = upload(address(state), file, {
    credential: app.key,
    headers: state.signature ? { "X-Tombola-Signature": state.signature } : {},
    onSent: (sent) => {
      found.sent = sent;
      app.update();
    },
    onLine: (step) => {
      found.steps.push(step);
      app.update();
    },
  });
  found.abort = running.abort;
  state.job = found;
  app.say(`${file.name} is on its way to the gate.`);
  running.done
    .then(
      (answer) => {
        found.answer = answer;
        app.say("The ticket is registered.", true);
      },
      (failure) => {
        found.failure = failure;
        app.say(`Not registered: ${failure.message}`);
      },
    )
    .finally(() => {
      found.isBusy = false;
      app.update();
      if (app.key) app.refresh();
    });
  app.update();
}
