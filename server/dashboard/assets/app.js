// The page's one state, and what changes it: the key, the view, the window, the latest overview. Wires all the rest.
//
// Owns `app`, which every view is given; a view is a function from it to elements. The address holds the view and
// nothing secret. Modules below know nothing of this one.

import { call, key } from "./api.js";
import { patch } from "./dom.js";
import { polling } from "./poll.js";
import { page, title } from "./shell.js";

const WINDOWS_S = [60, 300, 900];

const app = {
  key: key.get(),
  loginFailure: null,
  overview: null,
  failure: null,
  nextTryAt: 0,
  isWaiting: false,
  route: [],
  windowS: 60,
  windows: WINDOWS_S,
  ui: fresh(),

  /** Draw the page anew, soon and once. */
  update() {
    if (app.isWaiting) return;
    app.isWaiting = true;
    queueMicrotask(() => {
      app.isWaiting = false;
      patch(document.getElementById("app"), page(app));
      document.title = title(app);
    });
  },

  /** One request with the key of this page; `path` is relative. */
  call: (path, options = {}) => call(path, { credential: app.key, ...options }),

  /** Say something to who does not see the page, and with `isSeen` to everybody. Sparingly: it interrupts. */
  say(text, isSeen = false) {
    const place = document.getElementById("said");
    place.className = isSeen ? "toast" : "unseen";
    place.textContent = "";
    clearTimeout(app.silence);
    setTimeout(() => {
      place.textContent = text;
    }, 50); // a change is what is read out
    app.silence = setTimeout(() => {
      place.className = "unseen";
    }, 4000);
  },

  /** Open or close what stands behind a button. */
  toggle(id) {
    if (!app.ui.open.delete(id)) app.ui.open.add(id);
    app.update();
  },

  /** Set something that a view remembers, and draw it. */
  set(changes) {
    Object.assign(app.ui, changes);
    app.update();
  },

  logIn(credential) {
    app.key = credential;
    app.loginFailure = null;
    app.isEntering = true;
    poll.restart();
    app.update();
  },

  logOut(failure = null) {
    poll.stop();
    key.forget();
    Object.assign(app, {
      key: "",
      overview: null,
      failure: null,
      isEntering: false,
      loginFailure: failure,
      ui: fresh(),
    });
    app.update();
    focusKey();
  },

  chooseWindow(seconds) {
    app.windowS = seconds;
    poll.restart();
    app.update();
  },

  refresh: () => poll.restart(),
};

/** What views remember while somebody is logged in. */
function fresh() {
  return { open: new Set(), filter: "", dialog: null };
}

const poll = polling({ ask: () => app.call(`v1/overview?window_s=${app.windowS}`), settled });

function settled(overview, failure, nextInMs) {
  if (failure && (failure.status === 401 || failure.code === "suspended" || (app.isEntering && !app.overview))) {
    app.logOut(failure);
    return;
  }
  const wasAway = app.failure !== null;
  if (failure) {
    if (!wasAway) app.say(`${failure.message} Showing what was seen last.`);
    app.failure = failure;
    app.nextTryAt = Date.now() + nextInMs;
  } else {
    if (wasAway) app.say("The gateway answers again.");
    const before = app.overview?.problems?.length ?? 0;
    const now = overview.problems.length;
    if (now > before && app.overview)
      app.say(`${now === 1 ? "One problem" : `${now} problems`}: ${overview.problems[0].what}`);
    Object.assign(app, { overview, failure: null });
    if (app.isEntering) {
      app.isEntering = false;
      key.set(app.key);
      app.update();
      focusHeading();
    }
  }
  app.update();
}

function navigate() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  try {
    app.route = parts.map(decodeURIComponent);
  } catch {
    app.route = [];
  }
  app.ui.dialog = null;
  app.update();
}

function focusKey() {
  setTimeout(() => document.getElementById("key")?.focus(), 0);
}

/** Whoever uses a keyboard or hears the page begins at the heading of what is new. */
function focusHeading() {
  setTimeout(() => document.querySelector("h1")?.focus({ preventScroll: true }), 0);
}

addEventListener("hashchange", () => {
  const before = app.route[0];
  navigate();
  if (app.route[0] !== before) {
    scrollTo(0, 0);
    focusHeading();
  }
});
addEventListener("resize", () => app.update());
setInterval(() => {
  if (app.failure && !document.hidden) app.update();
}, 1000); // the countdown in the banner

navigate();
if (app.key) {
  app.isEntering = false;
  poll.restart();
}
