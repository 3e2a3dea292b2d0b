// An index's health: its contents, model and fields, its rejected records, and checks that a user starts.

import { ask, askForLines } from "./api.js";
import { choice, count, counted, duration, fill, h, percent, say, shown, size } from "./dom.js";

export const TITLE = "Index";

/** Show an index. params: its name. */
export function show(main, params, server) {
  const name = params.get("name") ?? server.indexes[0];
  const body = h("div", { class: "cards" });
  const select = choice(server.indexes, name, { onchange: (event) => (location.hash = `#/index?${new URLSearchParams({ name: event.target.value })}`) });
  const leaving = new AbortController();
  fill(main, h("div", { class: "opener" }, h("h1", {}, "Index"), name !== undefined && h("label", {}, h("span", { class: "hidden" }, "Name"), select)), body);
  if (name === undefined) fill(body, h("p", { class: "empty" }, "This server has no index."));
  else describe(body, name, server, leaving.signal);
  return () => leaving.abort();
}

async function describe(body, name, server, signal) {
  fill(body, h("p", { class: "waiting" }, "Reading …"));
  try {
    const index = await ask(`indexes/${encodeURIComponent(name)}`, { signal });
    fill(body, holding(index), space(index, server), fields(index), rejected(index), verifying(index, signal), recall(index, signal));
  } catch (error) {
    if (error.name !== "AbortError") fill(body, h("p", { class: "wrong", role: "alert" }, error.message));
  }
}

const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);
const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
const yes = (value, no) => (value === null || value === undefined ? null : value ? "yes" : no);

function holding(index) {
  if (index.part) return card("What it holds", h("p", {}, "This server exposes only part of this index, and does not reveal its size."));
  const well = index.health === "fine";
  return card(
    "What it holds",
    h("p", { class: well ? "state well" : "state unwell" }, well ? "Healthy" : index.health),
    facts([
      ["records", index.records === null ? null : count(index.records)],
      ["chunks", index.chunks === null ? null : count(index.chunks)],
      ["size", index.bytes === null ? null : size(index.bytes)],
      ["searched by an index", yes(index.indexed, "no, all chunks are compared")],
      ["found by word", yes(index.keywords, "no; harrier keywords adds the words")],
      ["last ingest", index.ingested && new Date(index.ingested).toLocaleString()],
    ]),
  );
}

function space(index, server) {
  if (!index.space) return card("Embedding space", h("p", {}, "It does not record which model made its vectors."));
  const same = index.differences.length === 0;
  const { model, revision, dimensions, dtype, pooling } = index.space;
  return card(
    "Embedding space",
    h("p", { class: same ? "state well" : "state unwell" }, same ? `The same as that of ${server.name}` : `Not the same as that of ${server.name}: ${index.differences.join("; ")}`),
    facts([["model", model], ["revision", revision], ["dimensions", count(dimensions)], ["computed in", dtype], ["pooling", pooling], ["digest", h("code", {}, index.digest)]]),
  );
}

function fields(index) {
  const rows = (index.fields ?? []).map((field) => {
    const range = field.range && field.kinds[0] === "number" && `${field.range[0]} to ${field.range[1]}`;
    const values = range || field.values.slice(0, 6).map(({ value, chunks }) => h("span", { class: "chip", title: counted(chunks, "chunk") }, shown(value).slice(0, 60)));
    return h("tr", {}, h("th", { scope: "row" }, field.name), h("td", {}, field.kinds.join(", ")), h("td", { class: "number" }, percent(field.share)), h("td", { class: "values" }, values));
  });
  const head = h("thead", {}, h("tr", {}, ["Field", "Kind", "Chunks", "Values"].map((name) => h("th", { scope: "col" }, name))));
  const table = h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Fields of metadata" }, h("table", {}, head, h("tbody", {}, rows)));
  return card("Metadata", rows.length ? [table, h("p", { class: "note" }, "Of 256 chunks at most, which stand for all.")] : h("p", { class: "none" }, "No chunk has any."));
}

function rejected({ rejected: kept }) {
  if (!kept) {
    const said = "An ingest through this server that rejects records is kept here, with the reasons. harrier ingest prints them.";
    return card("Rejected records", h("p", { class: "none" }, said));
  }
  const rows = kept.records.map(({ record_id: id, reason }) => h("li", {}, h("code", {}, id), ` ${reason}`));
  const more = kept.total > kept.records.length && h("p", { class: "note" }, `${count(kept.total - kept.records.length)} more`);
  const when = new Date(kept.at).toLocaleString();
  return card("Rejected records", h("p", {}, `The last ingest, ${when}, rejected ${counted(kept.total, "record")}.`), rows.length > 0 && h("ul", { class: "plain" }, rows), more);
}

function verifying(index, signal) {
  const result = h("div", { "aria-live": "polite" });
  const sample = h("input", { type: "number", min: 0, max: 1000, value: 100, required: true });
  const button = h("button", {}, "Verify");
  const run = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(result, h("p", { class: "waiting" }, "Started …"));
    const body = { index: index.id, sample: Number(sample.value) };
    await askForLines("verify", { body, signal }, (line) => fill(result, verified(line, index.chunks))).catch((error) => failed(error, result));
    button.disabled = false;
  };
  return card(
    "Verify",
    h("p", {}, "Checks every stored vector, and encodes a sample of the texts again."),
    h("form", { class: "run", onsubmit: run }, h("label", {}, "Sample ", sample), button),
    result,
  );
}

function verified(line, chunks) {
  if (line.status === "running") return [h("progress", { max: chunks ?? 1, value: line.checked, "aria-label": "Verified chunks" }), h("p", {}, `${counted(line.checked, "chunk")} so far`)];
  if (line.status === "failed") return h("p", { class: "wrong", role: "alert" }, line.error.message);
  const cosine = line.encoded ? ` (least cosine ${line.least_cosine.toFixed(4)})` : "";
  const said = `${counted(line.checked, "chunk")} checked, ${count(line.encoded)} encoded again${cosine}`;
  const problems = line.problems.map(({ record_id: id, problem }) => h("li", {}, h("code", {}, id), ` ${problem}`));
  const sound = line.problems_total === 0;
  return [h("p", { class: sound ? "state well" : "state unwell" }, sound ? "All sound" : counted(line.problems_total, "problem")), h("p", {}, said), problems.length > 0 && h("ul", { class: "plain" }, problems)];
}

function recall(index, signal) {
  const result = h("div", { "aria-live": "polite" });
  const k = h("input", { type: "number", min: 1, max: 100, value: 10, required: true });
  const queries = h("textarea", { rows: 3, placeholder: "One question per line. If there are none, some of the index's own texts are searched for." });
  const button = h("button", {}, "Compare");
  const run = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(result, h("p", { class: "waiting" }, "Searching …"));
    const asked = queries.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const body = { index: index.id, k: Number(k.value), ...(asked.length && { queries: asked }) };
    await ask("recall", { body, signal }).then((found) => fill(result, compared(found)), (error) => failed(error, result));
    button.disabled = false;
  };
  return card(
    "Recall",
    h("p", {}, "Compares the results of searches with those of an exact scan of all chunks."),
    h("form", { class: "run", onsubmit: run }, h("label", { class: "grow" }, "Questions ", queries), h("label", {}, "First ", k), button),
    result,
  );
}

function compared(found) {
  const worst = found.worst.map(({ query, recall: share }) => h("li", {}, h("span", { class: "score" }, percent(share)), ` ${query}`));
  say(`Recall ${percent(found.recall)}`);
  return [
    h("p", { class: "figure" }, percent(found.recall)),
    h("p", {}, `of the first ${found.k} are found, over ${count(found.searches)} searches; the worst has ${percent(found.least)}.`),
    h("p", {}, `A search takes ${duration(found.seconds.search)}, an exact one ${duration(found.seconds.exact)}.`),
    worst.length > 0 && h("ul", { class: "plain" }, worst),
  ];
}

function failed(error, result) {
  if (error.name !== "AbortError") fill(result, h("p", { class: "wrong", role: "alert" }, error.message));
}

