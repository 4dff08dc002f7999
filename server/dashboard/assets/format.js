// Numbers and moments as people read them: one form for each kind, wherever it stands. Pure functions.
// Three figures that count, units after a narrow space, and a dash for what is not known.

const NARROW = "\u202f";
export const UNKNOWN = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const groups = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Three figures: 0.412, 4.12, 41.2, 412, 4,120. */
export function number(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 99.95) return groups.format(value);
  if (size >= 9.995) return value.toFixed(1);
  if (size >= 0.9995) return value.toFixed(2);
  return size < 0.0005 ? "<0.001" : value.toFixed(3);
}

/** Whole numbers as they are, others (rates times seconds) rounded. */
export const count = (value) => (known(value) ? groups.format(value) : UNKNOWN);

/** Milliseconds; from ten seconds on, seconds. */
export function ms(value) {
  if (!known(value)) return UNKNOWN;
  return value >= 9999.5 ? `${number(value / 1000)}${NARROW}s` : `${number(value)}${NARROW}ms`;
}

/** A rate per second. */
export const rate = (value) => (known(value) ? `${value < 0.0005 ? "0" : number(value)}${NARROW}/s` : UNKNOWN);

/** A part of a whole. Cut, not rounded: 100 % means that nothing was missed, 0 % that nothing was met. */
export function percent(value) {
  if (!known(value)) return UNKNOWN;
  if (value <= 0) return `0${NARROW}%`;
  if (value >= 1) return `100${NARROW}%`;
  const digits = value >= 0.99 || value < 0.01 ? 2 : 1;
  const scale = 10 ** (digits + 2);
  const cut = Math.floor(value * scale + 1e-9) / (scale / 100);
  return cut === 0 ? `<${1 / 10 ** digits}${NARROW}%` : `${cut.toFixed(digits)}${NARROW}%`;
}

/** What is promised, as it was written: 50 ms, 12.5 ms; 99 %, 99.9 %. */
export const promised = (value) => (known(value) ? `${Number(value.toPrecision(6))}${NARROW}ms` : UNKNOWN);
export const objective = (value) => (known(value) ? `${Number((value * 100).toPrecision(6))}${NARROW}%` : UNKNOWN);

/** A share for a glance: whole percents. */
export function share(value) {
  if (!known(value)) return UNKNOWN;
  return value > 0 && value < 0.005 ? `<1${NARROW}%` : `${Math.round(value * 100)}${NARROW}%`;
}

/** How many times as fast as allowed. */
export function times(value) {
  if (!known(value)) return UNKNOWN;
  if (value <= 0) return "0×";
  if (value < 0.005) return "<0.01×";
  return value >= 99.5 ? `${groups.format(value)}×` : `${value >= 9.95 ? value.toFixed(1) : value.toFixed(2)}×`;
}

/** Bytes. */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let rest = value;
  while (rest >= 999.5 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  return `${at === 0 ? groups.format(rest) : number(rest)}${NARROW}${units[at]}`;
}

/** How long something takes or has been: 40 s, 12 min, 3.4 h, 2.1 d. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  const size = Math.max(0, seconds);
  if (size < 99.5) return `${Math.round(size)}${NARROW}s`;
  if (size < 5940) return `${Math.round(size / 60)}${NARROW}min`;
  return size < 172_800 ? `${(size / 3600).toFixed(1)}${NARROW}h` : `${(size / 86_400).toFixed(1)}${NARROW}d`;
}

/** How long ago a moment was, seen from another; both in seconds since 1970. */
export const ago = (at, now) =>
  known(at) && at > 0 ? (now - at < 5 ? "just now" : `${duration(now - at)} ago`) : UNKNOWN;

/** A moment in the viewer's own time. */
export function moment(at) {
  if (!known(at) || at <= 0) return UNKNOWN;
  const day = new Date(at * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())} ${clock(at)}`;
}

/** The time of day. */
export function clock(at) {
  const day = new Date(at * 1000);
  return [day.getHours(), day.getMinutes(), day.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** The window in words. */
export const span = (seconds) =>
  seconds < 100 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`;

/** As many digits of a ticket's id as people need. */
export const short = (ticket) => (typeof ticket === "string" ? ticket.slice(0, 10) : UNKNOWN);

/** The API's words as a sentence: they begin small and end without a full stop. */
export function sentence(words) {
  const text = String(words).trim();
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?:]$/.test(text) ? "" : "."}`;
}

/** One or several of something. */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A word for a shell, quoted so that nothing in it means anything. */
export const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
