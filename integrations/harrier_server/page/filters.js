// Conditions on metadata: a row for each, with the fields of the index, or JSON for those that rows cannot express.

import { choice, fill, h, shown } from "./dom.js";

const OPERATORS = {
  text: [["", "is"], ["$ne", "is not"], ["$contains", "contains"], ["$ilike", "is like"], ["$exists", "is there"]],
  number: [["", "="], ["$ne", "≠"], ["$gte", "≥"], ["$lte", "≤"], ["$gt", ">"], ["$lt", "<"], ["$exists", "is there"]],
  bool: [["", "is"], ["$exists", "is there"]],
};

/** Conditions that a user edits. `where` is their JSON form; `onchange` is called when it changes. */
export class Filters {
  constructor(where, onchange) {
    this.where = where;
    this.fields = [];
    this.onchange = onchange;
    this.rows = h("div", { class: "filters" });
    this.element = h("details", { class: "filter-box", open: Boolean(where) }, h("summary", {}, "Filters"), this.rows);
    this.draw();
  }

  /** Take the fields of an index, which rows offer. */
  offer(fields) {
    this.fields = fields ?? [];
    this.draw();
  }

  set(where) {
    this.where = where;
    this.draw();
    this.onchange();
  }

  draw() {
    const simple = rowsOf(this.where);
    const summary = this.element.firstChild;
    summary.textContent = simple?.length ? `Filters (${simple.length})` : this.where ? "Filters (JSON)" : "Filters";
    fill(this.rows, simple ? simple.map((row, at) => this.row(row, at, simple)) : this.json(), simple && this.adding(simple));
  }

  row([field, operator, value], at, rows) {
    const known = this.fields.find((each) => each.name === field);
    const kind = OPERATORS[known?.kinds[0]] ? known.kinds[0] : typeof value === "number" ? "number" : "text";
    const change = (changed) => this.set(whereOf(rows.map((row, other) => (other === at ? changed : row))));
    const list = `values-${at}`;
    const names = [...new Set([field, ...this.fields.map((each) => each.name)])];
    const operators = choice(OPERATORS[kind], operator, {
      "aria-label": `Operator of filter ${at + 1}`,
      onchange: (event) => change([field, event.target.value, event.target.value === "$exists" ? true : value === true ? "" : value]),
    });
    const fields = choice(names, field, { "aria-label": `Field of filter ${at + 1}`, onchange: (event) => change([event.target.value, "", ""]) });
    const input =
      operator !== "$exists" &&
      h("input", {
        "aria-label": `Value of filter ${at + 1}`,
        list,
        value: shown(value),
        onchange: (event) => change([field, operator, typed(event.target.value, kind)]),
      });
    const values = h("datalist", { id: list }, (known?.values ?? []).map((each) => h("option", { value: shown(each.value) })));
    const remove = h("button", { type: "button", class: "quiet", "aria-label": `Remove filter ${at + 1}`, onclick: () => this.set(whereOf(rows.filter((_, other) => other !== at))) }, "×");
    return h("div", { class: "filter" }, fields, operators, input, values, remove);
  }

  adding(rows) {
    const add = () => this.set(whereOf([...rows, [this.fields[0]?.name ?? "field", "", first(this.fields[0])]]));
    return h(
      "div",
      { class: "filter-actions" },
      h("button", { type: "button", class: "quiet", onclick: add }, "+ Add a condition"),
      h("button", { type: "button", class: "quiet", onclick: () => fill(this.rows, this.json()) }, "Write JSON"),
    );
  }

  json() {
    const area = h("textarea", { rows: 3, spellcheck: "false", "aria-label": "Conditions as JSON", value: this.where ? JSON.stringify(this.where) : "" });
    const wrong = h("p", { class: "wrong", role: "alert" });
    const apply = () => {
      try {
        this.set(area.value.trim() ? JSON.parse(area.value) : null);
      } catch {
        wrong.textContent = 'This is not valid JSON. Conditions look like {"lang": "fr", "year": {"$gte": 2020}}.';
      }
    };
    const buttons = [h("button", { type: "button", onclick: apply }, "Apply"), h("button", { type: "button", class: "quiet", onclick: () => this.set(null) }, "Clear")];
    return h("div", {}, area, wrong, h("div", { class: "filter-actions" }, buttons));
  }
}

const first = (field) => field?.values[0]?.value ?? "";

/** Return rows of field, operator and value, or null if the conditions are not that simple. */
function rowsOf(where) {
  const rows = [];
  for (const [field, wanted] of Object.entries(where ?? {})) {
    if (field.startsWith("$")) return null;
    if (wanted === null || typeof wanted !== "object") rows.push([field, "", wanted]);
    else if (Array.isArray(wanted)) return null;
    else for (const [operator, value] of Object.entries(wanted)) rows.push([field, operator, value]);
  }
  const known = Object.values(OPERATORS).flat().map(([operator]) => operator);
  return rows.every(([, operator, value]) => known.includes(operator) && typeof value !== "object") ? rows : null;
}

function whereOf(rows) {
  if (!rows.length) return null;
  const parts = rows.map(([field, operator, value]) => ({ [field]: operator ? { [operator]: value } : value }));
  const fields = new Set(rows.map(([field]) => field));
  if (fields.size === rows.length) return Object.assign({}, ...parts);
  const joined = {};
  for (const [field, operator, value] of rows) joined[field] = { ...joined[field], [operator || "$eq"]: value };
  return joined;
}

function typed(text, kind) {
  if (kind === "number" && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  if (kind === "bool" && (text === "true" || text === "false")) return text === "true";
  return text;
}
