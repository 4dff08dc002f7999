// Elements from data, and as few changes to the page as a new state needs.
//
// `h` describes an element, `patch` makes a parent's children match descriptions: focus, scrolling and what somebody is
// typing survive every update. Text becomes text nodes and nothing else: there is no way through here by which data
// could become markup or a handler, whatever it holds.

const SVG = "http://www.w3.org/2000/svg";
const MADE = new WeakMap(); // node -> the description it was made from
const ONCE = new Set(["value", "checked", "selected", "open"]); // set when they change, not to undo what somebody did

/** An element: tag, properties, children (strings, numbers, elements, arrays; null, false and true are left out). */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key ?? null, children: flat(children) };
}

/** Make the children of `parent` what `wanted` describes. */
export function patch(parent, wanted, ns = null) {
  const next = flat([wanted]);
  const named = new Map();
  const loose = [];
  for (const node of parent.childNodes) {
    const made = MADE.get(node);
    if (made?.key != null) named.set(made.key, node);
    else loose.push(node);
  }
  const nodes = next.map((v) => reuse(v, named, loose));
  const kept = new Set(nodes.filter(Boolean));
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
  let cursor = parent.firstChild;
  next.forEach((v, i) => {
    let node = nodes[i];
    if (node) update(node, v, ns);
    else node = make(v, ns);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  });
}

/** The words of several classes: those whose condition holds. */
export const classes = (...names) => names.filter(Boolean).join(" ");

function flat(children, into = []) {
  for (const child of children) {
    if (Array.isArray(child)) flat(child, into);
    else if (child != null && child !== false && child !== true)
      into.push(typeof child === "object" ? child : String(child));
  }
  return into;
}

function reuse(v, named, loose) {
  if (typeof v === "object" && v.key != null) {
    const node = named.get(v.key);
    if (!node || MADE.get(node).tag !== v.tag) return null;
    named.delete(v.key);
    return node;
  }
  const at = loose.findIndex((node) => (typeof v === "string" ? node.nodeType === 3 : MADE.get(node)?.tag === v.tag));
  return at < 0 ? null : loose.splice(at, 1)[0];
}

function make(v, ns) {
  if (typeof v === "string") return document.createTextNode(v);
  const inside = v.tag === "svg" ? SVG : ns;
  const node = inside ? document.createElementNS(inside, v.tag) : document.createElement(v.tag);
  MADE.set(node, { tag: v.tag, key: v.key, props: {} });
  patch(node, v.children, inside);
  apply(node, v, {});
  if (v.props.ref) v.props.ref(node);
  return node;
}

function update(node, v, ns) {
  if (typeof v === "string") {
    if (node.data !== v) node.data = v;
    return;
  }
  const before = MADE.get(node).props;
  patch(node, v.children, v.tag === "svg" ? SVG : ns);
  apply(node, v, before);
}

function apply(node, v, before) {
  for (const name of Object.keys(before)) if (!(name in v.props)) set(node, name, null, before[name]);
  for (const [name, value] of Object.entries(v.props)) set(node, name, value, before[name]);
  MADE.set(node, { tag: v.tag, key: v.key, props: v.props });
}

function set(node, name, value, before) {
  if (name === "key" || name === "ref") return;
  if (name.startsWith("on")) {
    if (value != null && typeof value !== "function") throw new TypeError(`${name} must be a function`);
    node[name] = value ?? null;
  } else if (name === "style") {
    for (const [rule, wanted] of Object.entries(value ?? {})) {
      if (before?.[rule] !== wanted) node.style.setProperty(rule, wanted);
    }
  } else if (ONCE.has(name)) {
    const wanted = value ?? (name === "value" ? "" : false);
    if (before !== value && node[name] !== wanted) node[name] = wanted;
  } else if (value == null || value === false) {
    node.removeAttribute(name);
  } else if (before !== value || !node.hasAttribute(name)) {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}
