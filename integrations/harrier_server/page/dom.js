// Elements, and numbers and texts in readable form. Text is always text, and never becomes markup.

/** Return an element with attributes, listeners (onclick and the like) and children. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/** Return a select element for [value, label] pairs, or for values. */
export function choice(options, chosen, attributes = {}) {
  const select = h("select", attributes);
  for (const option of options) {
    const [value, label, more] = Array.isArray(option) ? option : [option, option];
    select.append(h("option", { value, selected: value === chosen, ...more }, label));
  }
  return select;
}

/** Announce a text to screen readers. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

const whole = new Intl.NumberFormat("en");

export const count = (number) => (number === null || number === undefined ? "unknown" : whole.format(number));
export const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
export const score = (number) => (Math.abs(number) >= 10 ? number.toFixed(1) : number.toFixed(3));
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** Return a duration in milliseconds or seconds, with two or three digits. */
export function duration(seconds) {
  const ms = seconds * 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${seconds.toFixed(2)} s`;
}

/** Return a number of bytes in readable form. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let left = bytes;
  while (left >= 1000 && at < units.length - 1) [left, at] = [left / 1000, at + 1];
  return `${left >= 100 || at === 0 ? Math.round(left) : left.toFixed(1)} ${units[at]}`;
}

/** Return a metadata value as text. */
export const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Return a URL that is safe to follow, or null: documents may contain others as well. */
export function safeLink(value) {
  if (typeof value !== "string" || !/^https?:\/\//i.test(value)) return null;
  try {
    const url = new URL(value);
    return url.username || url.password ? null : url.href;
  } catch {
    return null;
  }
}
