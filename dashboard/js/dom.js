// Elements, created one by one. Text is never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** A new element. `props.on`: {event: handler}; other properties are attributes, unless null or false. */
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

// Only addresses of this site pass: data of a job could contain a `javascript:` address.
function safe(name, value) {
  if (name !== "href" && name !== "src") return value;
  return /^(#|\/(?![/\\]))/.test(value) ? value : "#";
}

export function setChildren(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The content of a template of index.html, copied. */
export const fromTemplate = (id) => document.getElementById(id).content.cloneNode(true);

/** Set the text if it differs: screen readers do not read an unchanged text again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A function that calls `callback` after `ms` without another call. `pending()`: whether a call is due. */
export function debounce(callback, ms) {
  let timer = 0;
  const run = () => { timer = 0; callback(); };
  const call = () => { clearTimeout(timer); timer = setTimeout(run, ms); };
  call.cancel = () => { clearTimeout(timer); timer = 0; };
  call.pending = () => timer > 0;
  return call;
}

/** Whether a key press belongs to a field or to the browser. */
export function isTyping(event) {
  const { target } = event;
  return event.ctrlKey || event.metaKey || event.altKey || (target instanceof HTMLElement && target.matches("input, select, textarea, dialog *"));
}

function arrange(parent, nodes) {
  const focused = document.activeElement;
  const next = new Set(nodes);
  for (const child of [...parent.children]) if (!next.has(child)) child.remove();
  nodes.forEach((node, index) => parent.children[index] === node || parent.insertBefore(node, parent.children[index] ?? null));
  if (focused !== document.activeElement && focused?.isConnected) focused.focus();
}

/** A function that shows items as rows of `parent`. The elements of an item stay while it is in the list, so that the focus
 * stays. `createRow(item)` -> {update(item) -> nodes}. */
export function keyedRows(parent, keyOf, createRow) {
  const rows = new Map();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const key of rows.keys()) if (!keys.has(key)) rows.delete(key);
    arrange(parent, items.flatMap((item) => {
      const key = keyOf(item);
      if (!rows.has(key)) rows.set(key, createRow(item));
      return rows.get(key).update(item);
    }));
  };
}
