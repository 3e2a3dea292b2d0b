// A report of an evaluation, opened from a file: the metrics of each system, and the significance of differences.

import { count, fill, h, say } from "./dom.js";
import { interval, rangeOf } from "./interval.js";

export const TITLE = "Report";

const FORMAT = 1;
let opened = null; // kept while the page is open

/** Show the form that opens a report, and the report that was opened last. */
export function show(main) {
  const body = h("div", { class: "report" });
  const input = h("input", { type: "file", accept: ".json,application/json", onchange: () => input.files[0] && read(input.files[0], body) });
  const drop = h(
    "div",
    { class: "drop", ondragover: (event) => event.preventDefault(), ondrop: (event) => (event.preventDefault(), event.dataTransfer.files[0] && read(event.dataTransfer.files[0], body)) },
    h("label", {}, "Open a report ", input),
    h("p", { class: "note" }, "harrier eval --json writes one. It is read in the browser, and not sent anywhere."),
  );
  fill(main, h("h1", {}, "Report"), drop, body);
  if (opened) draw(body, opened);
}

async function read(file, body) {
  try {
    const report = JSON.parse(await file.text());
    if (report?.format !== FORMAT || !Array.isArray(report.systems)) throw new Error();
    opened = { ...report, file: file.name };
    draw(body, opened);
    say(`Opened ${file.name}`);
  } catch {
    fill(body, h("p", { class: "wrong", role: "alert" }, `${file.name} is not a report in format ${FORMAT} of this kit; harrier eval --json writes one.`));
  }
}

function draw(body, report) {
  fill(body, h("h2", {}, report.file), provenance(report), notes(report), systems(report), comparisons(report), slices(report), changed(report));
}

const text = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);
const table = (label, names, rows) =>
  h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)));

function provenance({ provenance: known = {}, questions }) {
  const rows = Object.entries({ ...(questions && { questions: count(questions.length) }), ...known }).filter(([, value]) => value === null || typeof value !== "object");
  return rows.length > 0 && h("dl", { class: "inline" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, text(value)))));
}

const notes = ({ notes: said = [] }) => said.length > 0 && h("ul", { class: "notes" }, said.map((note) => h("li", {}, text(note))));

function systems({ systems: all, metric }) {
  const metrics = [...new Set(all.flatMap((each) => Object.keys(each.metrics ?? {})))];
  metrics.sort((one, other) => (other === metric) - (one === metric));
  const ranges = new Map(metrics.map((name) => [name, rangeOf(all.map((each) => each.metrics?.[name]))]));
  const rows = all.map((each) =>
    h("tr", {}, h("th", { scope: "row" }, text(each.name)), metrics.map((name) => h("td", {}, each.metrics?.[name] && interval(each.metrics[name], ranges.get(name))))),
  );
  return card("Systems", table("Systems and their metrics", ["System", ...metrics], rows), h("p", { class: "note" }, `The lines are 95 % intervals; ${metric} decides.`));
}

function comparisons({ comparisons: all = [], systems: [first], metric }) {
  if (!all.length) return null;
  const range = rangeOf([...all.map((each) => each.differences?.[metric]), { mean: 0, low: 0, high: 0 }]);
  const rows = all.map((each) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, text(each.name)),
      h("td", {}, each.differences?.[metric] && interval(each.differences[metric], range, { zero: true })),
      h("td", { class: "number" }, Number(each.p_corrected).toFixed(4)),
      h("td", { class: each.significant ? (each.differences?.[metric]?.mean > 0 ? "number up" : "number down") : "" }, text(each.verdict)),
    ),
  );
  return card(`Compared with ${text(first.name)}`, table("Differences", ["System", `Difference in ${metric}`, "p, corrected", "Verdict"], rows));
}

function slices({ slices: all = [], systems: [first], metric }) {
  if (!all.length) return null;
  const range = rangeOf(all.flatMap((each) => each.estimates));
  const rows = all.map((each) => h("tr", {}, h("th", { scope: "row" }, `${text(each.field)} ${text(each.value)}`), h("td", { class: "number" }, count(each.questions)), h("td", {}, each.estimates?.[0] && interval(each.estimates[0], range))));
  return card("Slices", table("Slices", ["Slice", "Questions", `${metric} of ${text(first.name)}`], rows));
}

function changed({ changed: all = [], questions = [] }) {
  if (!all.length) return null;
  const texts = new Map(questions.map((each) => [each.id, each.text]));
  const rows = all.map((each) => {
    const by = each.after - each.before;
    const said = `${by > 0 ? "+" : ""}${by.toFixed(3)}`;
    return h("tr", {}, h("td", { class: by > 0 ? "number up" : "number down" }, said), h("th", { scope: "row" }, text(texts.get(each.question) ?? each.question)), h("td", {}, text(each.system)));
  });
  return card("Questions that gained or lost most", table("Questions that gained or lost most", ["Change", "Question", "System"], rows));
}
