// An estimate with its interval: numbers, and a line on a range that is the same for all of a column.

import { h, s } from "./dom.js";

/** Return the common range of some estimates. */
export function rangeOf(estimates) {
  const known = estimates.filter(Boolean).flatMap(({ mean, low, high }) => [mean, low, high]).filter(Number.isFinite);
  if (!known.length) return [0, 1];
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const margin = Math.max(0.005, (most - least) * 0.08);
  return [least - margin, most + margin];
}

/** Return an element for an estimate. zero: mark the point of no difference. */
export function interval({ mean, low, high }, [least, most], { zero = false } = {}) {
  const x = (value) => (100 * (value - least)) / (most - least);
  const said = `${mean.toFixed(3)}, from ${low.toFixed(3)} to ${high.toFixed(3)}`;
  const picture = s(
    "svg",
    { class: "interval", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    zero && s("rect", { x: x(0) - 0.25, width: 0.5, y: 0, height: 12, class: "zero" }),
    s("rect", { x: x(low), width: Math.max(0.5, x(high) - x(low)), y: 5, height: 2, class: "reach" }),
    s("rect", { x: x(mean) - 1, width: 2, y: 2, height: 8, class: "mark" }),
  );
  return h("div", { class: "estimate", title: said }, h("span", { class: "hidden" }, said), h("span", { "aria-hidden": "true" }, `${zero && mean > 0 ? "+" : ""}${mean.toFixed(3)}`), picture, h("small", { "aria-hidden": "true" }, `${low.toFixed(3)} to ${high.toFixed(3)}`));
}
