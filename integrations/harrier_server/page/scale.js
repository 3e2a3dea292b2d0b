// The position of a cosine among those of unrelated texts: a line, their range on it, and a mark.

import { s, score } from "./dom.js";

const WIDTH = 100;
const HEIGHT = 10;

/** Return the common range of a column's lines. */
export function domainOf(background, cosines) {
  const known = [...cosines, background.low, background.highest].filter(Number.isFinite);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const margin = Math.max(0.01, (high - low) * 0.06);
  return [low - margin, high + margin];
}

/** Return a picture of a cosine compared with those of unrelated texts. */
export function scale(cosine, background, [low, high]) {
  const x = (value) => (WIDTH * (value - low)) / (high - low);
  const [left, right] = [x(background.low), x(background.high)];
  return s(
    "svg",
    { class: "scale", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": standing(cosine, background) },
    s("line", { x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2, class: "axis" }),
    s("rect", { x: left, width: Math.max(0.5, right - left), y: 2.5, height: 5, class: "usual" }),
    s("rect", { x: x(background.middle) - 0.3, width: 0.6, y: 2.5, height: 5, class: "middle" }),
    s("rect", { x: x(cosine) - 0.8, width: 1.6, y: 0, height: HEIGHT, class: "mark" }),
  );
}

/** Describe the position of a cosine in words. */
export function standing(cosine, background) {
  const usual = `unrelated texts have ${score(background.low)} to ${score(background.high)}`;
  if (cosine > background.high) return `cosine ${score(cosine)}, above unrelated texts; ${usual}`;
  return `cosine ${score(cosine)}, no higher than unrelated texts; ${usual}`;
}
