// A result: its rank and movement, its origin, its score compared with those of unrelated texts, and its text.

import { fill, h, score, shown } from "./dom.js";
import { badge } from "./moves.js";
import { scale } from "./scale.js";

const CHIPS = 3;

/** Return an element for a match, whose `moved` shows how it moved since the previous column. */
export function result(match, rank, { mode, background, domain, index, on }) {
  const move = h("span");
  const address = new URLSearchParams({ index, id: match.record_id, chunk: match.number });
  const link = h("a", { href: `#/record?${address}` }, titleOf(match.record_id, match.metadata));
  const number = h("span", { class: "score", title: scoreOf[mode] }, score(match.score));
  const cosine = mode === "hybrid" && match.cosine !== null && h("span", { class: "cosine" }, `cosine ${score(match.cosine)}`);
  const element = h(
    "li",
    { class: "result", onmouseenter: () => on.point(match.id), onmouseleave: () => on.point(null), onfocusin: () => on.point(match.id), onfocusout: () => on.point(null), onkeydown: stepping },
    h("div", { class: "result-head" }, h("span", { class: "rank" }, rank + 1), move, link, number),
    background && match.cosine !== null && scale(match.cosine, background, domain),
    h("p", { class: "snippet" }, match.text),
    h("p", { class: "chips" }, cosine, match.number > 0 && h("span", { class: "chip" }, `chunk ${match.number}`), chips(match.metadata)),
  );

  function stepping(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const along = { ArrowUp: element.previousElementSibling, ArrowDown: element.nextElementSibling }[event.key];
    if (by) on.step(match.id, by);
    else if (along) along.querySelector("a")?.focus();
    else return;
    event.preventDefault();
  }

  element.moved = (own, before) => fill(move, own !== null && badge(own, before));
  return element;
}

const scoreOf = {
  dense: "The cosine of the question and the text",
  keyword: "BM25: how well the words fit",
  hybrid: "The share of the best possible places in both lists",
};

/** Return the name of a record: its title, or else its id. */
export function titleOf(id, metadata) {
  const title = [metadata.title, metadata.subject, metadata.heading].find((each) => typeof each === "string" && each.trim());
  return title ? title.trim() : id;
}

function chips(metadata) {
  const known = Object.entries(metadata).filter(([name, value]) => !UNTOLD.has(name) && value !== null && shown(value).length <= 40);
  return known.slice(0, CHIPS).map(([name, value]) => h("span", { class: "chip" }, h("b", {}, name), ` ${shown(value)}`));
}

const UNTOLD = new Set(["title", "subject", "heading", "harrier_root", "harrier_file", "harrier_sitemap"]);
