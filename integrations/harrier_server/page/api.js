// Requests to the server that this page comes from, with the user's key if one is needed.

const KEPT = "harrier-key";
let key = sessionStorage.getItem(KEPT) ?? "";
let asking = null;

/** An error answer of the server. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Return a route's answer, as JSON. params: of a GET; body: of a POST. */
export async function ask(path, options = {}) {
  return (await send(path, options)).json();
}

/** Call `each` with the objects of a route that answers with JSON lines. */
export async function askForLines(path, options, each) {
  const reader = (await send(path, options)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) each(JSON.parse(line));
    if (done) return;
  }
}

async function send(path, { params, body, signal } = {}) {
  const query = params ? `?${new URLSearchParams(params)}` : "";
  for (let wrong = false; ; wrong = true) {
    const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
    const method = body ? "POST" : "GET";
    const response = await fetch(`v1/${path}${query}`, { method, headers, signal, body: body && JSON.stringify(body) }).catch(unreached);
    if (response.ok) return response;
    if (response.status !== 401) throw await refusal(response);
    asking ??= askForKey(wrong).finally(() => (asking = null));
    await asking;
  }
}

function unreached(error) {
  if (error.name === "AbortError") throw error;
  throw new Refused(0, "unreached", "The server does not answer. Is it running?");
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  return new Refused(response.status, said.error?.code, said.error?.message ?? `The server answered ${response.status}.`);
}

/** Ask the user for the key. It is kept in this page's memory, or for this tab's session if the user wants that. */
function askForKey(wrong) {
  const dialog = document.getElementById("key");
  const value = document.getElementById("key-value");
  document.getElementById("key-wrong").textContent = wrong || key ? "This server does not accept that key." : "";
  value.value = "";
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      key = value.value.trim();
      if (document.getElementById("key-keep").checked) sessionStorage.setItem(KEPT, key);
      else sessionStorage.removeItem(KEPT);
      value.value = "";
      resolve();
    };
  });
}
