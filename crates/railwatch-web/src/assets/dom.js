// Elements from plain calls, and an update that keeps what did not change. Text is only ever text: names come from
// outsiders.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") : null);

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    // What a person opened or is typing stays.
    if (!to.hasAttribute(name) && name !== "open" && name !== "data-here") from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) === value) continue;
    // The policy of the page forbids style attributes, and allows styles that a script sets.
    if (name === "style") from.style.cssText = to.style.cssText;
    else from.setAttribute(name, value);
  }
}

/** Makes `from` look like `to`, touching as little as possible: focus, selection and scroll survive. */
export function morph(from, to) {
  if (from.nodeType === 3) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  attributes(from, to);
  if (from.nodeName === "INPUT" || from.nodeName === "TEXTAREA") return;
  children(from, to);
}

export function children(from, to) {
  const keyed = new Map();
  for (const child of from.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const key = keyOf(wanted);
    const known = key ? keyed.get(key) : place && !keyOf(place) && sameKind(place, wanted) ? place : null;
    if (known && sameKind(known, wanted)) {
      if (known === place) place = place.nextSibling;
      else from.insertBefore(known, place);
      keyed.delete(key);
      morph(known, wanted);
    } else {
      from.insertBefore(wanted, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
