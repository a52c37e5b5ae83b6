// Elements, made one by one: text stays text, whatever is in it.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: class, on: {event: handler}, anything else is an attribute. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else {
      node.setAttribute(name, value === true ? "" : safe(name, value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Addresses lead to our own pages only, so that no data can smuggle in `javascript:`.
function safe(name, value) {
  if (name !== "href" && name !== "src") return value;
  return /^(#|\/(?![/\\]))/.test(value) ? value : "#";
}

export function setChildren(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A copy of a template of index.html. */
export const fromTemplate = (id) => document.getElementById(id).content.cloneNode(true);

/** Set an attribute or text only where it changed, so that nothing flickers or is read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function isTyping(event) {
  const at = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || (at instanceof HTMLElement && at.matches("input, select, textarea, dialog *"));
}

function arrange(parent, nodes) {
  const focused = document.activeElement;
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, at) => parent.children[at] === node || parent.insertBefore(node, parent.children[at] ?? null));
  if (focused !== document.activeElement && focused?.isConnected) focused.focus();
}

/** Rows stay the same elements as long as what they tell of is there: the focus is not lost. `make(item)` ->
 * {update(item) -> nodes}; gives `show(items)`. */
export function keyedRows(parent, key, make) {
  const rows = new Map();
  return (items) => {
    const names = new Set(items.map(key));
    for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
    arrange(parent, items.flatMap((item) => {
      const name = key(item);
      if (!rows.has(name)) rows.set(name, make(item));
      return rows.get(name).update(item);
    }));
  };
}
