// What the model reads of a question: the exact string, and the tokens that it is cut into.

import { counted, h } from "./dom.js";

/** Return a box that opens to show it. */
export function pieces({ prompt, pieces: tokens }) {
  const string = h("pre", { class: "prompt", tabindex: "0", "aria-label": "The exact prompt" }, prompt);
  const cut = h("p", { class: "tokens", "aria-label": "Its tokens" }, tokens.map(token));
  return h("details", { class: "reading" }, h("summary", {}, `What the model reads: ${counted(tokens.length, "token")}`), string, cut);
}

function token(text) {
  const told = text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");
  return h("span", { class: /^<.*>$/.test(text) ? "token special" : "token" }, told || "∅");
}
