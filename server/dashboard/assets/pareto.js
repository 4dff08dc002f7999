// The Pareto plot of a family: quality over service time, the area of a bubble is the share of traffic it serves now.
//
// Owns scales, the frontier and where names go. The table beside it says the same in numbers.

import { h } from "./dom.js";
import { ms, number, percent, share, short } from "./format.js";
import { nice } from "./charts.js";

const HEIGHT = 270;
const MARGIN = { left: 58, right: 18, top: 18, bottom: 40 };
const SMALL = 6;
const LARGE = 26;

/** The tickets that no other one beats in both: from the dearest to the cheapest. */
export function frontier(tickets) {
  const better = (a, b) =>
    a.quality >= b.quality && a.service_ms <= b.service_ms && (a.quality > b.quality || a.service_ms < b.service_ms);
  return tickets.filter((t) => !tickets.some((other) => better(other, t))).sort((a, b) => b.service_ms - a.service_ms);
}

/** Round milliseconds between two bounds, for a logarithmic axis. */
export function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const n of [1, 2, 5]) {
      const value = n * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found;
}

/** The plot. `width` in pixels; `floors`: quality floors to draw, as {value, name}. */
export function pareto(family, width) {
  const tickets = family.tickets;
  const scales = scaled(tickets, width);
  const { x, y, times, qualities } = scales;
  const placed = [];
  const marks = tickets.map((t) => ({ t, cx: x(t.service_ms), cy: y(t.quality), r: radius(t.share) }));
  const best = frontier(tickets.filter((t) => t.state === "promoted"));
  const words = tickets.map(
    (t) =>
      `${t.tier}, ${t.state}: quality ${percent(t.quality)} at ${ms(t.service_ms)}, ${share(t.share)} of the traffic`,
  );
  return h(
    "svg",
    {
      class: "pareto",
      width,
      height: HEIGHT,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      role: "img",
      "aria-label": `Quality over service time. ${words.join("; ")}.`,
    },
    qualities.map((q) =>
      h(
        "g",
        { class: "axis", key: `q${q}` },
        h("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(q), y2: y(q) }),
        h("text", { x: MARGIN.left - 8, y: y(q) + 4, "text-anchor": "end" }, `${number(q * 100)} %`),
      ),
    ),
    times.map((t) =>
      h(
        "g",
        { class: "axis", key: `t${t}` },
        h("line", { x1: x(t), x2: x(t), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
        h("text", { x: x(t), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, plain(t)),
      ),
    ),
    h(
      "text",
      { class: "axis-name", x: width - MARGIN.right, y: HEIGHT - 4, "text-anchor": "end" },
      "service time of one text, ms (logarithmic) →",
    ),
    h("text", { class: "axis-name", x: MARGIN.left, y: 10 }, "↑ quality"),
    best.length > 1 &&
      h("path", {
        class: "frontier",
        d: best.map((t, i) => `${i ? "L" : "M"}${x(t.service_ms).toFixed(1)} ${y(t.quality).toFixed(1)}`).join(""),
      }),
    [...marks].sort((a, b) => b.r - a.r).map((m) => bubble(m)),
    marks.map((m) => name(m, marks, placed, width)),
  );
}

function scaled(tickets, width) {
  const all = (pick) => tickets.map(pick);
  const low = Math.min(...all((t) => t.service_ms)) / 1.6;
  const high = Math.max(...all((t) => t.service_ms)) * 1.6;
  const spread = Math.max(...all((t) => t.quality)) - Math.min(...all((t) => t.quality));
  const pad = Math.max(0.005, spread * 0.35);
  const step = nice(spread + 2 * pad, 4).step;
  const floor = Math.max(0, Math.floor((Math.min(...all((t) => t.quality)) - pad) / step) * step);
  const top = Math.min(1 + pad, Math.max(...all((t) => t.quality)) + pad);
  const plot = { w: width - MARGIN.left - MARGIN.right, h: HEIGHT - MARGIN.top - MARGIN.bottom };
  const qualities = [];
  for (let q = floor; q <= Math.min(1, top) + 1e-9; q += step) qualities.push(Number(q.toFixed(6)));
  let times = decades(low, high);
  if (times.length > plot.w / 46) times = times.filter((t) => Math.abs(Math.log10(t) % 1) < 1e-6);
  return {
    x: (v) => MARGIN.left + (Math.log(v / low) / Math.log(high / low)) * plot.w,
    y: (v) => MARGIN.top + plot.h - ((v - floor) / (top - floor || 1)) * plot.h,
    times,
    qualities,
  };
}

const plain = (value) => String(Number(value.toPrecision(3)));

/** Area, not width, is what the eye compares. */
const radius = (part) => (part ? Math.max(SMALL, LARGE * Math.sqrt(part)) : SMALL);

function bubble({ t, cx, cy, r }) {
  const shape =
    t.state === "canary"
      ? h("path", { d: `M${cx} ${cy - r - 2}L${cx + r + 2} ${cy}L${cx} ${cy + r + 2}L${cx - r - 2} ${cy}Z` })
      : h("circle", { cx, cy, r });
  return h(
    "g",
    { key: t.ticket, class: `bubble is-${t.state}` },
    h(
      "title",
      null,
      `${t.tier} ${short(t.ticket)}, ${t.state}: quality ${percent(t.quality)}, ${ms(t.service_ms)}, ${share(t.share)} of the traffic`,
    ),
    shape,
  );
}

/** The name of a bubble, at the first of six places that nothing covers. */
function name(mark, marks, placed, width) {
  const words = mark.t.share ? `${mark.t.tier} ${share(mark.t.share)}` : mark.t.tier;
  const w = words.length * 6.6 + 4;
  const { cx, cy, r } = mark;
  const places = [
    [cx + r + 5, cy + 4],
    [cx - r - 5 - w, cy + 4],
    [cx - w / 2, cy - r - 6],
    [cx - w / 2, cy + r + 14],
    [cx + r + 5, cy - 12],
    [cx + r + 5, cy + 20],
  ];
  const box = ([left, base]) => ({ left, right: left + w, top: base - 11, bottom: base + 3 });
  const isFree = (b) =>
    b.left > MARGIN.left &&
    b.right < width - 4 &&
    b.top > 10 &&
    b.bottom < HEIGHT - MARGIN.bottom &&
    placed.every((p) => b.right < p.left || b.left > p.right || b.bottom < p.top || b.top > p.bottom) &&
    marks.every(
      (m) => m === mark || b.right < m.cx - m.r || b.left > m.cx + m.r || b.bottom < m.cy - m.r || b.top > m.cy + m.r,
    );
  const at = places.find((place) => isFree(box(place))) ?? places[2];
  placed.push(box(at));
  return h("text", { key: `name-${mark.t.ticket}`, class: "bubble-name", x: at[0], y: at[1] }, words);
}
