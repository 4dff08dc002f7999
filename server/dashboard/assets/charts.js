// Charts as SVG: sparklines, curves over time with the SLA line, a latency's place before its deadline, time as a bar.
//
// Owns how numbers become shapes. Every chart says in words what it shows; those with axes have a table of the same
// numbers behind a button. Gaps stay gaps: what was not measured is not drawn. The Pareto plot is in `pareto.js`.

import { h } from "./dom.js";
import { clock, ms, number, promised, rate, UNKNOWN } from "./format.js";
import { fold, grid } from "./parts.js";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Runs of known values as lists of [index, value]. */
export function runs(values) {
  const found = [];
  let run = null;
  values.forEach((value, i) => {
    if (!known(value)) run = null;
    else {
      if (!run) found.push((run = []));
      run.push([i, value]);
    }
  });
  return found;
}

/** The round number at or above `top`, and the step between its ticks. */
export function nice(top, ticks = 4) {
  if (!(top > 0)) return { top: 1, step: 0.25 };
  const raw = top / ticks;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= raw * 0.999);
  return { top: Math.ceil(top / step - 1e-9) * step, step };
}

/** A curve without axes, as wide as its place. `line`: the deadline, drawn dashed. */
export function spark(values, { label, line = null, max = null, tone = "info", format = number } = {}) {
  const width = 120;
  const height = 28;
  const seen = values.filter(known);
  const top = Math.max(max ?? 0, ...seen, (line ?? 0) * 1.1) || 1;
  const x = (i) => (values.length < 2 ? width : (i / (values.length - 1)) * width);
  const y = (v) => height - 2 - (Math.min(v, top) / top) * (height - 4);
  const words = seen.length
    ? `${label}: now ${format(seen.at(-1))}, between ${format(Math.min(...seen))} and ${format(Math.max(...seen))}`
    : `${label}: nothing yet`;
  return h(
    "svg",
    {
      class: `spark is-${tone}`,
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": words,
    },
    line !== null && h("line", { class: "sla", x1: 0, x2: width, y1: y(line), y2: y(line) }),
    runs(values).map((run) => [
      h("path", { class: "area", d: `${path(run, x, y)}L${x(run.at(-1)[0])} ${height}L${x(run[0][0])} ${height}Z` }),
      run.length === 1
        ? h("path", { class: "curve", d: `M${x(run[0][0]) - 1} ${y(run[0][1])}h2` })
        : h("path", { class: "curve", d: path(run, x, y) }),
    ]),
  );
}

const path = (run, x, y) => run.map(([i, v], n) => `${n ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");

/** How wide a chart may be here, so that its letters keep their size. */
export const room = (most = 560) => Math.max(240, Math.min(most, document.documentElement.clientWidth - 72));

/**
 * A curve over time with axes. `of`: {step_s, ends_at, ...}; `values`: the list in it; `line`: {value, name}.
 * Under it, behind a button, the same as a table.
 */
export function timeline(app, { id, title, of, values, format, unit, line = null, tone = "info", width = room() }) {
  const height = 150;
  const left = 52;
  const bottom = 20;
  const plot = { w: width - left - 10, h: height - bottom - 12 };
  const seen = values.filter(known);
  const scale = nice(Math.max(...seen, (line?.value ?? 0) * 1.05, 0));
  const x = (i) => left + (values.length < 2 ? plot.w : (i / (values.length - 1)) * plot.w);
  const y = (v) => 10 + plot.h - (Math.min(v, scale.top) / scale.top) * plot.h;
  const at = (i) => of.ends_at - (values.length - 1 - i) * of.step_s;
  const over = line ? seen.filter((v) => v > line.value).length : 0;
  const words = !seen.length
    ? `${title}: nothing measured yet.`
    : `${title}: now ${format(seen.at(-1))}, highest ${format(Math.max(...seen))}` +
      (line ? `; ${over} of ${seen.length} points over the ${line.name} of ${promised(line.value)}.` : ".");
  return h(
    "figure",
    { class: "figure" },
    h("figcaption", null, title),
    h(
      "svg",
      {
        class: `timeline is-${tone}`,
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": words,
      },
      axes({ x, y, at, scale, width, height, left, unit, last: values.length - 1 }),
      runs(values).map((run) =>
        h("path", {
          class: "curve",
          d: run.length === 1 ? `M${x(run[0][0]) - 1.5} ${y(run[0][1])}h3` : path(run, x, y),
        }),
      ),
      line &&
        h(
          "g",
          { class: "sla-group" },
          h("line", { class: "sla", x1: left, x2: width - 10, y1: y(line.value), y2: y(line.value) }),
          h("text", { x: left + 4, y: y(line.value) - 4 }, `${line.name} ${promised(line.value)}`),
        ),
    ),
    fold(app, `table-${id}`, { show: "Show as a table", hide: "Hide the table" }, () =>
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` },
        grid(
          ["time", { name: title, num: true }],
          values.map((v, i) => [clock(at(i)), known(v) ? format(v) : UNKNOWN]).reverse(),
          { label: title },
        ),
      ),
    ),
  );
}

/** The lines and the names of a timeline's axes. */
function axes({ x, y, at, scale, width, height, left, unit, last }) {
  const ticks = Array.from({ length: Math.round(scale.top / scale.step) + 1 }, (_, i) => i * scale.step);
  const moments = last > 0 ? [0, last / 2, last] : [];
  return [
    ticks.map((tick) =>
      h(
        "g",
        { class: "axis", key: tick },
        h("line", { x1: left, x2: width - 10, y1: y(tick), y2: y(tick) }),
        h("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, `${Number(tick.toPrecision(4))}${unit}`),
      ),
    ),
    moments.map((i, n) =>
      h("text", { x: x(i), y: height - 4, "text-anchor": ["start", "middle", "end"][n] }, clock(at(i))),
    ),
  ];
}

/** Where p50, p95 and p99 stand before their deadline: the part of a track; the end of it is a little behind the line. */
export function latency({ p50_ms: p50, p95_ms: p95, p99_ms: p99 }, deadline) {
  const top = deadline ? deadline * 1.25 : Math.max(p99 ?? 1, 1) * 1.1;
  const at = (v) => `${(Math.min(1, (v ?? 0) / top) * 100).toFixed(1)}%`;
  const isOver = deadline !== null && known(p99) && p99 > deadline;
  const words = known(p99)
    ? `p50 ${ms(p50)}, p95 ${ms(p95)}, p99 ${ms(p99)}${deadline ? `, deadline ${promised(deadline)}` : ""}`
    : "no latencies yet";
  return h(
    "span",
    { class: isOver ? "latency is-over" : "latency", role: "img", "aria-label": words, title: words },
    known(p99) && h("span", { class: "latency-99", style: { width: at(p99) } }),
    known(p95) && h("span", { class: "latency-95", style: { width: at(p95) } }),
    known(p50) && h("span", { class: "latency-50", style: { left: at(p50) } }),
    deadline && h("span", { class: "latency-line", style: { left: at(deadline) } }),
  );
}

/** Parts of one whole beside each other, with a legend that carries the numbers. `parts`: {name, value, kind}. */
export function stack(parts, { label, format }) {
  const shown = parts.filter((part) => part.value > 0);
  const whole = shown.reduce((sum, part) => sum + part.value, 0) || 1;
  const words = shown.map((part) => `${part.name} ${format(part.value)}`).join(", ");
  return h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "stack-bar", role: "img", "aria-label": `${label}: ${words || "nothing"}` },
      shown.map((part) =>
        h("span", {
          key: part.name,
          class: `stack-part kind-${part.kind}`,
          style: { "flex-grow": (part.value / whole).toFixed(4) },
        }),
      ),
    ),
    h(
      "ul",
      { class: "legend" },
      parts.map((part) =>
        h(
          "li",
          { key: part.name },
          h("span", { class: `swatch kind-${part.kind}`, "aria-hidden": "true" }),
          `${part.name} `,
          h("b", { class: "num" }, format(part.value)),
        ),
      ),
    ),
  );
}

export const rateCurve = (spark_, options = {}) =>
  spark(spark_.rate_per_s, { label: "requests per second", format: rate, ...options });
export const p99Curve = (spark_, deadline, options = {}) =>
  spark(spark_.p99_ms, { label: "p99", format: ms, line: deadline, tone: "latency", ...options });
