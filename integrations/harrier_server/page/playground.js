// One question, asked in several ways side by side: other instructions, other modes, another index.

import { ask } from "./api.js";
import { Column, columnsOf } from "./column.js";
import { choice, counted, fill, h, say } from "./dom.js";
import { Filters } from "./filters.js";
import { Moves } from "./moves.js";

export const TITLE = "Playground";

const MOST = 4; // columns
let last = ""; // the state when another view was opened

/** Show the playground. params: a question and the settings, from a URL. */
export function show(main, params, server) {
  const playground = new Playground(server, params.size ? params : new URLSearchParams(last));
  fill(main, playground.element);
  playground.begin();
  document.addEventListener("keydown", slash);
  return () => {
    document.removeEventListener("keydown", slash);
    playground.end();
  };
}

/** Focus the question when a slash is pressed, unless the user is typing text. */
function slash(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.getElementById("question")?.select();
}

class Playground {
  constructor(server, params) {
    this.server = server;
    this.k = Number(params.get("k")) || 10;
    this.index = server.indexes.includes(params.get("index")) ? params.get("index") : server.indexes[0];
    this.asked = params.get("q") ?? "";
    this.filters = new Filters(parsed(params.get("where")), () => this.asked && this.search());
    this.indexes = new Map();
    this.running = new AbortController();
    this.given = params.get("c");
    this.list = [];
    this.element = this.index ? this.built() : nothing();
  }

  built() {
    this.question = h("input", { type: "search", id: "question", placeholder: "Ask what your texts should answer", autocomplete: "off", value: this.asked });
    const indexes = choice(this.server.indexes, this.index, { onchange: (event) => this.turn(event.target.value) });
    const numbers = choice(["5", "10", "20", "50"], String(this.k), { onchange: (event) => this.depth(Number(event.target.value)) });
    this.columns = h("div", { class: "columns" });
    this.hint = h(
      "p",
      { class: "hint", hidden: Boolean(this.asked) },
      "Each column asks the same question in a different way: without an instruction, with one that the model knows, or with your own sentence; by meaning, by word, or by both. ",
      h("kbd", {}, "/"), " jumps to the question, and the arrow keys move between results.",
    );
    this.moves = new Moves(this.columns);
    const form = h(
      "form",
      { class: "asking", role: "search", onsubmit: (event) => (event.preventDefault(), this.search()) },
      h("label", { class: "question" }, h("span", { class: "hidden" }, "Question"), this.question),
      h("button", { class: "primary" }, "Search"),
      h("div", { class: "settings" }, h("label", {}, "Index ", indexes), h("label", {}, "Results ", numbers)),
    );
    const legend = h(
      "p",
      { class: "legend" },
      h("span", { class: "key up" }, "rises"), h("span", { class: "key down" }, "falls"), h("span", { class: "key same" }, "stays"),
      h("span", { class: "key usual" }, "what unrelated texts score"),
    );
    this.adding = h("button", { type: "button", class: "quiet", onclick: () => this.add() }, "+ Add a column");
    return h("div", { class: "playground", "aria-busy": this.asked ? "true" : null }, h("h1", { class: "hidden" }, "Playground"), form, this.filters.element, h("div", { class: "between" }, legend, this.adding), this.columns, this.hint);
  }

  async begin() {
    if (!this.index) return;
    if (!this.asked && matchMedia("(min-width: 800px)").matches) this.question.focus();
    const given = columnsOf(this.given, this.server);
    if (given.length) this.compare(given);
    const facts = await this.known(this.index);
    if (!given.length) this.compare(usual(this.server, facts, this.index));
    this.filters.offer(facts.fields);
  }

  compare(settings) {
    this.list = settings.map((each) => this.column(each));
    this.draw();
    if (this.asked) this.search();
  }

  /** Return the facts about an index, or none if it fails: the error is shown when it is searched. */
  async known(name) {
    if (!this.indexes.has(name)) this.indexes.set(name, await ask(`indexes/${encodeURIComponent(name)}`).catch(() => ({})));
    return this.indexes.get(name);
  }

  column(settings) {
    return new Column(settings, this.server, {
      change: (column) => this.search(column),
      remove: (column) => this.remove(column),
      point: (id) => this.point(id),
      step: (column, id, by) => this.step(column, id, by),
    });
  }

  draw() {
    this.adding.disabled = this.list.length === MOST;
    this.list.forEach((column) => column.only(this.list.length === 1));
    fill(this.columns, this.list.map((column) => column.element), this.moves.picture);
    this.columns.dataset.columns = this.list.length;
    this.line();
  }

  add() {
    const last = this.list.at(-1).settings;
    const column = this.column({ ...last, mode: last.mode === "dense" ? "hybrid" : "dense" });
    this.list.push(column);
    this.draw();
    column.element.querySelector("select").focus();
    if (this.asked) this.search(column);
  }

  remove(column) {
    const at = this.list.indexOf(column);
    this.list.splice(at, 1);
    this.draw();
    this.keep();
    this.list[Math.max(0, at - 1)].element.querySelector("select").focus();
  }

  async turn(name) {
    const before = this.index;
    this.index = name;
    for (const column of this.list) if (column.settings.index === before) column.turn(name);
    this.filters.offer((await this.known(name)).fields);
    if (this.asked) this.search();
  }

  depth(k) {
    this.k = k;
    if (this.asked) this.search();
  }

  /** Search in all columns at once, or in one; each shows its results as soon as they arrive. */
  async search(only = null) {
    this.asked = this.question.value.trim();
    if (!this.asked) return this.question.focus();
    this.keep();
    this.hint.hidden = true;
    if (!only) {
      this.running.abort();
      this.running = new AbortController();
    }
    const { signal } = this.running;
    const asked = { query: this.asked, k: this.k, ...(this.filters.where && { where: this.filters.where }) };
    const columns = only ? [only] : this.list;
    this.element.setAttribute("aria-busy", "true");
    await Promise.all(columns.map((column) => column.search(asked, signal).then(() => this.line())));
    if (signal.aborted) return;
    this.element.removeAttribute("aria-busy");
    say(columns.map((column) => `${column.named}: ${counted(column.ids.length, "result")}`).join("; "));
  }

  /** Show how each result moved since the previous column, and draw the lines between them. */
  line() {
    this.list.forEach((column, at) => column.compare(at ? this.list[at - 1] : null));
    this.moves.set(this.list.map((column) => column.elements));
  }

  point(id) {
    this.moves.point(id);
    for (const column of this.list) column.point(id);
  }

  /** Focus the same result in a neighbouring column. */
  step(column, id, by) {
    const beside = this.list[this.list.indexOf(column) + by];
    (beside?.elements.get(id) ?? beside?.elements.values().next().value)?.querySelector("a")?.focus();
  }

  /** Keep the state in the URL. */
  keep() {
    const said = new URLSearchParams({ q: this.asked, index: this.index, k: this.k });
    if (this.filters.where) said.set("where", JSON.stringify(this.filters.where));
    said.set("c", JSON.stringify(this.list.map((column) => column.settings)));
    last = said.toString();
    history.replaceState(null, "", `#/?${last}`);
  }

  end() {
    this.running.abort();
    this.moves?.end();
  }
}

/** Return the default columns: no instruction, the usual one, and a third that this index and model support. */
function usual(server, facts, index) {
  const tasks = Object.keys(server.tasks);
  const first = tasks.includes("web_search_query") ? "web_search_query" : tasks[0];
  const other = tasks.find((each) => each !== first);
  const columns = [{ what: "none", mode: "dense" }];
  if (first) columns.push({ what: `task:${first}`, mode: "dense" });
  if (facts.keywords && first) columns.push({ what: `task:${first}`, mode: "hybrid" });
  else if (other) columns.push({ what: `task:${other}`, mode: "dense" });
  return columns.map((each) => ({ ...each, own: "", index }));
}

function parsed(json) {
  try {
    return json ? JSON.parse(json) : null;
  } catch {
    return null;
  }
}

const nothing = () =>
  h(
    "div",
    { class: "empty" },
    h("h1", {}, "There is no index yet"),
    h("p", {}, "Start the server with an index, and search it on this page:"),
    h("pre", {}, "harrier serve --index 'notes=pgvector:/home/me/index?table=notes'"),
  );
