// The prompt that the model reads for a question: the exact string, and its tokens.

import { counted, h } from "./dom.js";

/** Return an expandable box that shows the prompt. */
export function pieces({ prompt, pieces: tokens }) {
  const string = h("pre", { class: "prompt", tabindex: "0", "aria-label": "The exact prompt" }, prompt);
  const cut = h("p", { class: "tokens", "aria-label": "Its tokens" }, tokens.map(token));
  return h("details", { class: "reading" }, h("summary", {}, `What the model reads: ${counted(tokens.length, "token")}`), string, cut);
}

function token(text) {
  const told = text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");
  return h("span", { class: /^<.*>$/.test(text) ? "token special" : "token" }, told || "∅");
}
