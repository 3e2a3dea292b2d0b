// A column of the playground: the settings of a search, the prompt that the model reads, and the results.

import { ask } from "./api.js";
import { choice, counted, duration, fill, h } from "./dom.js";
import { pieces } from "./prompt.js";
import { result } from "./result.js";
import { domainOf } from "./scale.js";

const MODES = [["dense", "by meaning"], ["keyword", "by word"], ["hybrid", "by both"]];

/** Return the settings of columns in a URL, except those that this server does not know. */
export function columnsOf(json, server) {
  let given = [];
  try {
    given = JSON.parse(json ?? "[]");
  } catch {
    return [];
  }
  const tasks = Object.keys(server.tasks).map((name) => `task:${name}`);
  const known = (each) => ["none", "own", ...tasks].includes(each?.what) && server.indexes.includes(each.index);
  return (Array.isArray(given) ? given : []).filter(known).slice(0, 4).map(({ what, mode, own, index }) => ({
    what,
    index,
    own: String(own ?? ""),
    mode: MODES.some(([name]) => name === mode) ? mode : "dense",
  }));
}

/** One column. `on` has the playground's handlers for its events. */
export class Column {
  constructor(settings, server, on) {
    this.settings = settings;
    this.server = server;
    this.on = on;
    this.elements = new Map();
    this.found = null;
    this.head = h("div", { class: "column-head" });
    this.reads = h("div", { class: "reads" });
    this.list = h("ol", { class: "results" });
    this.element = h("section", { class: "column" }, this.head, this.reads, this.list);
    this.drawHead();
  }

  get ids() {
    return [...this.elements.keys()];
  }

  /** The column's name, for screen readers. */
  get named() {
    const { what, mode } = this.settings;
    if (mode === "keyword") return "By word";
    const carried = what === "none" ? "No instruction" : what === "own" ? "Own sentence" : what.slice(5);
    return mode === "hybrid" ? `${carried}, by both` : carried;
  }

  drawHead() {
    const { what, mode, own, index } = this.settings;
    const set = (changed) => {
      Object.assign(this.settings, changed);
      this.drawHead();
      this.on.change(this);
    };
    const tasks = Object.keys(this.server.tasks).map((name) => [`task:${name}`, name]);
    const allowed = this.server.instructions;
    const sentence = ["own", allowed ? "own sentence …" : "own sentence (needs --allow-instructions)", { disabled: !allowed }];
    const instruction = choice([["none", "no instruction"], ...tasks, sentence], what, {
      "aria-label": "Instruction",
      class: "instruction",
      disabled: mode === "keyword",
      onchange: (event) => (event.target.value === "own" && !own ? this.edit(event.target.value) : set({ what: event.target.value })),
    });
    const modes = choice(MODES, mode, { "aria-label": "Mode", onchange: (event) => set({ mode: event.target.value }) });
    const indexes =
      this.server.indexes.length > 1 && choice(this.server.indexes, index, { "aria-label": "Index of this column", onchange: (event) => set({ index: event.target.value }) });
    this.removal = h("button", { type: "button", class: "quiet remove", "aria-label": `Remove the column ${this.named}`, onclick: () => this.on.remove(this) }, "×");
    const field =
      what === "own" &&
      mode !== "keyword" &&
      h("input", { class: "own", "aria-label": "Own sentence", placeholder: "Given a question, retrieve …", value: own, onchange: (event) => set({ own: event.target.value.trim() }) });
    this.element.setAttribute("aria-label", this.named);
    fill(this.head, instruction, this.removal, field, h("div", { class: "choices" }, modes, indexes));
  }

  /** Show the field for the user's own sentence; nothing is searched before it is filled in. */
  edit(what) {
    this.settings.what = what;
    this.drawHead();
    this.head.querySelector(".own").focus();
  }

  only(alone) {
    this.removal.hidden = alone;
  }

  turn(index) {
    this.settings.index = index;
    this.drawHead();
  }

  async search(asked, signal) {
    const { what, mode, own, index } = this.settings;
    const carried = mode === "keyword" ? {} : what === "none" ? { role: "document" } : what === "own" ? { instruction: own } : { task: what.slice(5) };
    if (what === "own" && mode !== "keyword" && !own) return this.fail("Write the sentence to use as the instruction.");
    this.element.setAttribute("aria-busy", "true");
    try {
      const found = await ask("explain", { body: { ...asked, index, mode, ...carried }, signal });
      this.show(found, mode);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    }
    this.element.removeAttribute("aria-busy");
  }

  fail(message) {
    this.elements = new Map();
    fill(this.reads);
    fill(this.list, h("li", { class: "wrong" }, message));
  }

  show(found, mode) {
    const { background, matches } = found;
    const cosines = matches.map((match) => match.cosine).filter((each) => each !== null);
    const domain = background && domainOf(background, cosines);
    const on = { point: this.on.point, step: (id, by) => this.on.step(this, id, by) };
    this.elements = new Map(matches.map((match, rank) => [match.id, result(match, rank, { mode, background, domain, index: this.settings.index, on })]));
    fill(this.reads, this.summary(found), found.prompt !== undefined && pieces(found));
    const empty = h("li", { class: "none" }, mode === "keyword" ? "No text has these words." : "Nothing meets the filters.");
    fill(this.list, matches.length ? [...this.elements.values()] : empty);
  }

  summary({ seconds, matches }) {
    const encode = seconds.encode === undefined ? "" : `encoded in ${duration(seconds.encode)}, `;
    return h("p", { class: "summary" }, `${counted(matches.length, "result")}, ${encode}found in ${duration(seconds.search)}`);
  }

  /** Show for each result how it moved since the previous column. */
  compare(before) {
    const ranks = before && before.elements.size ? new Map(before.ids.map((id, rank) => [id, rank])) : null;
    this.ids.forEach((id, rank) => this.elements.get(id).moved(ranks && rank, ranks && ranks.get(id)));
  }

  point(id) {
    for (const [own, element] of this.elements) element.classList.toggle("pointed", own === id);
  }
}
