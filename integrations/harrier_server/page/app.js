// The views and their routing: the part of the URL after # names a view, and has all that is needed to open it again.

import { ask } from "./api.js";
import { fill, h } from "./dom.js";
import * as health from "./health.js";
import * as playground from "./playground.js";
import * as record from "./record.js";
import * as report from "./report.js";

const VIEWS = { "": playground, record, index: health, report };
const THEME = "harrier-theme";

const main = document.getElementById("main");
let leave = () => {};
let shown = null;

/** Open the view that the URL names. */
async function open() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS[path] ?? playground;
  for (const link of document.querySelectorAll("nav a")) {
    if (VIEWS[link.getAttribute("href").slice(2)] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave();
  const moved = shown !== null && shown !== view;
  shown = view;
  document.title = `${view.TITLE} · Harrier`;
  leave = view.show(main, new URLSearchParams(query), server) ?? (() => {});
  if (moved) main.focus({ preventScroll: true });
  if (moved) scrollTo(0, 0);
}

function choose(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

const theme = document.getElementById("theme");
theme.value = localStorage.getItem(THEME) ?? "";
choose(theme.value);
theme.addEventListener("change", () => {
  localStorage.setItem(THEME, theme.value);
  choose(theme.value);
});
document.getElementById("skip").addEventListener("click", () => main.focus());

let server = null;
try {
  server = await ask("server");
  const model = document.getElementById("model");
  fill(model, server.name);
  model.title = `${server.space.model}, ${server.space.dimensions} dimensions, harrier-kit ${server.version}`;
  addEventListener("hashchange", open);
  await open();
} catch (error) {
  fill(main, h("div", { class: "empty" }, h("h1", {}, "Not available"), h("p", {}, error.message), h("button", { onclick: () => location.reload() }, "Try again")));
}
