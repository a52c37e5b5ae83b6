// Elements, made one by one: text stays text, whatever is in it.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: class, on: {event: handler}, anything else is an attribute. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
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

/** Replace what a node holds. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Set an attribute or text only where it changed, so that nothing flickers or is read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Whether the keyboard is writing somewhere, so that a letter is not a command. */
export function typing(event) {
  const at = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || (at instanceof HTMLElement && at.matches("input, select, textarea, dialog *"));
}
