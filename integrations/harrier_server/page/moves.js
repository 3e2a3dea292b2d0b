// Movements of results from one column to the next: a badge in words, and lines between the columns.

import { h, s } from "./dom.js";

/** Return a badge for how a result moved. before: its rank in the previous column from 0, or undefined if it is new. */
export function badge(rank, before) {
  if (before === undefined) return h("span", { class: "move new" }, "new");
  const by = before - rank;
  if (by === 0) return h("span", { class: "move same" }, h("span", { "aria-hidden": "true" }, "="), h("span", { class: "hidden" }, "same place"));
  const [sign, word] = by > 0 ? ["▲", "up"] : ["▼", "down"];
  return h("span", { class: `move ${word}` }, h("span", { "aria-hidden": "true" }, `${sign}${Math.abs(by)}`), h("span", { class: "hidden" }, `${word} ${Math.abs(by)}`));
}

/** Draws lines between equal results, over a box that shows them in columns. */
export class Moves {
  constructor(box) {
    this.box = box;
    this.picture = s("svg", { class: "moves", "aria-hidden": "true" });
    box.append(this.picture);
    this.columns = [];
    this.watching = new ResizeObserver(() => this.draw());
    this.watching.observe(box);
  }

  /** Take each column's results, in order: a map from the ids of chunks to elements. */
  set(columns) {
    this.columns = columns;
    this.draw();
  }

  draw() {
    this.picture.style.width = this.picture.style.height = "0"; // so that it does not enlarge the box itself
    const place = this.box.getBoundingClientRect();
    const [width, height] = [this.box.scrollWidth, this.box.scrollHeight];
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.style.width = `${width}px`;
    this.picture.style.height = `${height}px`;
    const [dx, dy] = [this.box.scrollLeft - place.left, this.box.scrollTop - place.top];
    const lines = [];
    for (let at = 1; at < this.columns.length; at += 1) {
      const [before, after] = [this.columns[at - 1], this.columns[at]];
      const ranks = new Map([...before.keys()].map((id, rank) => [id, rank]));
      [...after.entries()].forEach(([id, element], rank) => {
        if (!before.has(id)) return;
        const [from, to] = [before.get(id).getBoundingClientRect(), element.getBoundingClientRect()];
        const [x1, y1, x2, y2] = [from.right + dx, middle(from) + dy, to.left + dx, middle(to) + dy];
        const bend = (x2 - x1) / 2;
        const way = Math.sign(ranks.get(id) - rank);
        const kind = way > 0 ? "up" : way < 0 ? "down" : "same";
        lines.push(s("path", { class: kind, "data-id": id, d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
      });
    }
    this.picture.replaceChildren(...lines);
  }

  /** Highlight the lines of one result, or of none if it is null. */
  point(id) {
    for (const line of this.picture.children) line.classList.toggle("pointed", line.dataset.id === id);
    this.picture.classList.toggle("pointing", id !== null);
  }

  end() {
    this.watching.disconnect();
  }
}

// The first line of a result, because the heights of whole cards differ.
const middle = (place) => place.top + Math.min(place.height / 2, 26);
