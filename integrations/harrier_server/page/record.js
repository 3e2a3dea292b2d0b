// A record as it is stored: its chunks, its metadata, its origin, and the neighbours of a chunk.

import { ask } from "./api.js";
import { choice, count, counted, fill, h, safeLink, score, shown } from "./dom.js";
import { titleOf } from "./result.js";

export const TITLE = "Record";

/** Show a record. params: its index and id, and the chunk to show first. */
export function show(main, params, server) {
  const index = params.get("index") ?? server.indexes[0];
  const id = params.get("id") ?? "";
  const body = h("div", { class: "record-body" });
  fill(main, h("h1", { class: "hidden" }, "Record"), opener(server, index, id), body);
  if (!id) fill(body, h("p", { class: "empty" }, "Open a record by its id, or follow the title of a result."));
  else open(body, index, id, Number(params.get("chunk") ?? 0));
}

function opener(server, index, id) {
  const indexes = choice(server.indexes, index);
  const field = h("input", { value: id, spellcheck: "false", autocomplete: "off", required: true });
  const go = (event) => {
    event.preventDefault();
    location.hash = `#/record?${new URLSearchParams({ index: indexes.value, id: field.value })}`;
  };
  return h("form", { class: "opener", onsubmit: go }, h("label", {}, "Index ", indexes), h("label", { class: "grow" }, "Id ", field), h("button", { class: "primary" }, "Open"));
}

async function open(body, index, id, chosen) {
  fill(body, h("p", { class: "waiting" }, "Reading …"));
  try {
    const record = await ask("records", { params: { index, id } });
    const [first] = record.chunks;
    const near = h("div", { class: "near" });
    const sections = record.chunks.map((chunk, at) => section(chunk, record.chunks[at - 1], () => choose(chunk.number)));
    const choose = (number) => {
      sections.forEach((each) => each.toggleChunk(number));
      neighbours(near, index, id, number);
    };
    const text = h("article", { class: "text", "aria-label": "Text" }, sections, record.left_out > 0 && h("p", { class: "none" }, `${counted(record.left_out, "more chunk")}`));
    const side = h("aside", { class: "about" }, about(record, first.metadata), near);
    fill(body, h("h2", { class: "record-title" }, titleOf(id, { ...record.metadata, ...first.metadata })), text, side);
    const wanted = record.chunks.some((each) => each.number === chosen) ? chosen : first.number;
    choose(wanted);
    if (wanted !== first.number) sections[record.chunks.findIndex((each) => each.number === wanted)].scrollIntoView({ block: "center" });
  } catch (error) {
    fill(body, h("p", { class: "wrong", role: "alert" }, error.message));
  }
}

/** Return an element for a chunk, with its overlap with the previous one marked. */
function section(chunk, before, choose) {
  const overlap = before ? Math.max(0, Math.min(before.end - chunk.start, chunk.text.length)) : 0;
  const marker = h("button", { type: "button", class: "marker", onclick: choose, "aria-label": `Chunk ${chunk.number}: show what is near it` }, chunk.number);
  const described = Object.entries(chunk.metadata).filter(([name]) => name !== "title");
  const element = h(
    "section",
    { class: "chunk", id: `chunk-${chunk.number}`, "aria-label": `Chunk ${chunk.number}` },
    h("div", { class: "border" }, marker, h("span", {}, `${count(chunk.start)} – ${count(chunk.end)}`), described.map(([name, value]) => h("span", {}, `${name} ${shown(value)}`))),
    h("p", {}, overlap > 0 && h("mark", { class: "overlap", title: `also in chunk ${before.number}` }, chunk.text.slice(0, overlap)), chunk.text.slice(overlap)),
  );
  element.toggleChunk = (number) => {
    element.classList.toggle("chosen", number === chunk.number);
    marker.setAttribute("aria-pressed", String(number === chunk.number));
  };
  return element;
}

function about(record, ofFirst) {
  const metadata = { ...record.metadata };
  const from = [];
  for (const name of ["url", "link", "source"]) {
    const link = safeLink(metadata[name]);
    if (link) from.push(h("a", { href: link, rel: "noreferrer noopener", target: "_blank" }, link));
  }
  const page = safeLink(record.id);
  if (page) from.push(h("a", { href: page, rel: "noreferrer noopener", target: "_blank" }, page));
  const { harrier_root: root, harrier_source: source } = { ...ofFirst, ...metadata };
  if (typeof root === "string" && typeof source === "string" && record.id.startsWith(`${source}/`)) {
    from.push(h("code", {}, `${root}/${record.id.slice(source.length + 1)}`));
  }
  const rows = Object.entries(metadata).filter(([name]) => name !== "harrier_root");
  const last = record.chunks.at(-1);
  return [
    h("h3", {}, "About"),
    h("dl", { class: "facts" }, fact("id", h("code", {}, record.id)), fact("chunks", count(record.chunks.length + record.left_out)), fact("characters", count(last.end)), from.length > 0 && fact("from", from)),
    h("h3", {}, "Metadata"),
    rows.length ? h("dl", { class: "facts" }, rows.map(([name, value]) => fact(name, shown(value)))) : h("p", { class: "none" }, "None."),
  ];
}

const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];

async function neighbours(near, index, id, number) {
  fill(near, h("h3", {}, `Near chunk ${number}`), h("p", { class: "waiting" }, "Searching …"));
  try {
    const { matches } = await ask("near", { params: { index, id, chunk: number, k: 8 } });
    const items = matches.map((match) => {
      const address = new URLSearchParams({ index, id: match.record_id, chunk: match.number });
      const own = match.record_id === id;
      const name = own ? `chunk ${match.number} of this record` : titleOf(match.record_id, match.metadata);
      return h("li", {}, h("div", { class: "near-head" }, h("a", { href: `#/record?${address}` }, name), h("span", { class: "score" }, score(match.cosine))), h("p", { class: "snippet" }, match.text));
    });
    fill(near, h("h3", {}, `Near chunk ${number}`), items.length ? h("ol", {}, items) : h("p", { class: "none" }, "There are no other chunks."));
  } catch (error) {
    fill(near, h("h3", {}, `Near chunk ${number}`), h("p", { class: "wrong", role: "alert" }, error.message));
  }
}
