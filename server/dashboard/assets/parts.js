// The small things that every view is made of: marks of states, tiles, empty states, lines to copy, dialogs.
// Colour never stands alone: each mark has a shape or a word with it.

import { h, classes } from "./dom.js";
import { quoted, sentence, short } from "./format.js";

/** A heading with something to its right. */
export const section = (title, aside, ...children) =>
  h("section", { class: "section" }, h("div", { class: "section-head" }, h("h2", null, title), aside), children);

/** A number with its name above and a note below. */
export function tile({ name, value, note, tone, chart, title }) {
  return h(
    "div",
    { class: classes("tile", tone && `is-${tone}`), title },
    h("div", { class: "tile-name" }, name),
    h("div", { class: "tile-value num" }, value),
    note != null && h("div", { class: "tile-note" }, note),
    chart && h("div", { class: "tile-chart" }, chart),
  );
}

const MARKS = { good: "●", watch: "▲", bad: "■", off: "○", info: "◆" };

/** A word with a mark before it, in the tone of what it says. */
export const badge = (word, tone = "off", title) =>
  h(
    "span",
    { class: `badge is-${tone}`, title },
    h("span", { class: "badge-mark", "aria-hidden": "true" }, MARKS[tone]),
    word,
  );

const STATES = { promoted: "good", canary: "watch", registered: "off" };

/** The state of a ticket. */
export const stateBadge = (state) => badge(state, STATES[state] ?? "off");

/** A ticket's id, as short as people need it and whole where they point at it. */
export const ticketId = (id) => h("code", { class: "id", title: id }, short(id));

/** Nothing to show yet: why, and what to do. */
export const empty = (title, ...children) => h("div", { class: "empty" }, h("h2", null, title), children);

/** Something failed: what, and the code that the API gave. */
export const failed = (failure, title = "That did not work") =>
  h(
    "div",
    { class: "notice is-bad", role: "alert" },
    h("strong", null, `${title}. `),
    sentence(failure.message),
    failure.code && failure.code !== "unreachable" && h("span", { class: "faint" }, ` (${failure.code})`),
  );

/** A line for a shell, with a button that copies it. */
export function commandLine(text, app) {
  return h(
    "div",
    { class: "command" },
    h("pre", { tabindex: "0", "aria-label": "A command to copy" }, h("code", null, text)),
    h("button", { class: "small", type: "button", onclick: (event) => copy(text, event.currentTarget, app) }, "Copy"),
  );
}

async function copy(text, button, app) {
  let isDone = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // no clipboard on pages without TLS: mark it, so that Ctrl-C takes it
    getSelection().selectAllChildren(button.previousSibling);
    isDone = document.execCommand("copy");
  }
  app.say(isDone ? "Copied." : "Marked. Copy it with Ctrl+C.");
  button.textContent = isDone ? "Copied" : "Ctrl+C";
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}

/** The command that asks a domain something. The key stays out of it. */
export function curl(domain, { text = "hello", tier, deadlineMs } = {}) {
  const body = { domain, text, ...(tier ? { tier } : {}), ...(deadlineMs ? { deadline_ms: deadlineMs } : {}) };
  const url = new URL("v1/classify", document.baseURI).href;
  return `curl -sS ${url} -H "Authorization: Bearer $TOMBOLA_KEY" -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`;
}

/** Content that stands behind a button: the table of a chart, the details of a row. `id` names it in `app.ui.open`. */
export function fold(app, id, words, content) {
  const isOpen = app.ui.open.has(id);
  return h(
    "div",
    { class: "fold", key: `fold-${id}` },
    h(
      "button",
      { class: "link", type: "button", "aria-expanded": String(isOpen), onclick: () => app.toggle(id) },
      isOpen ? words.hide : words.show,
    ),
    isOpen && h("div", { class: "fold-body" }, content()),
  );
}

/** A table from column names and rows of cells. A cell is text or an element; the first one heads its row. */
export function grid(columns, rows, { label, className } = {}) {
  const heads = columns.map((c) => (typeof c === "string" ? { name: c } : c));
  const kind = (i) => classes(heads[i].num && "num", heads[i].wide && "wide-only");
  return h(
    "table",
    { class: classes("grid", className), "aria-label": label },
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        heads.map((head, i) => h("th", { scope: "col", class: kind(i), title: head.title }, head.name)),
      ),
    ),
    h(
      "tbody",
      null,
      rows.map((row) =>
        h(
          "tr",
          { key: row.key ?? null, class: row.className },
          (row.cells ?? row).map((cell, i) =>
            h(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: kind(i) }, cell),
          ),
        ),
      ),
    ),
  );
}

/** One field of a form: the label, the control, a hint or what is wrong with it. */
export function field({ id, label, hint, wrong }, control) {
  const about = hint || wrong ? `${id}-about` : null;
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    h(
      control.tag,
      { ...control.props, id, "aria-describedby": about, "aria-invalid": wrong ? "true" : null },
      control.children,
    ),
    about && h("p", { id: about, class: classes("hint", wrong && "is-wrong") }, wrong || hint),
  );
}

/** A question before something is done. `open` it with showModal through its ref; Escape closes it. */
export function dialog({ title, onclose }, ...children) {
  return h(
    "dialog",
    {
      class: "dialog",
      "aria-labelledby": "dialog-title",
      onclose,
      ref: (node) =>
        queueMicrotask(() => {
          if (node.isConnected && !node.open) node.showModal();
        }),
    },
    h("h2", { id: "dialog-title" }, title),
    children,
  );
}

/** A meter: how much of something, as a bar with its number beside it. */
export function bar(part, { tone = "info", label } = {}) {
  const width = Math.max(0, Math.min(1, part ?? 0)) * 100;
  return h(
    "span",
    { class: "bar", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" },
    h("span", { class: `bar-fill is-${tone}`, style: { width: `${width.toFixed(1)}%` } }),
  );
}
