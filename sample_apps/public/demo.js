"use strict";

// What could not be served on this machine, and what to install: `gateway demo` fills this in.
const missing = {};

// The routes of the demo's config, as far as they differ.
const routes = {
  cgi: {
    target: "script", value: "sample_apps/cgi-bin/wsgi.py",
    story: "A new process for each request: simple, isolated, slow to start.",
  },
  fastcgi: {
    target: "app", value: "flup-fastcgi",
    story: "A worker that stays, on a connection that is kept.",
  },
  scgi: {
    target: "app", value: "flup-scgi",
    story: "A worker that stays, on a connection for each request: a protocol of one page.",
  },
  http: {
    target: "address", value: "the sample's own HTTP server",
    story: "A server of its own, reached as any other HTTP server is.",
  },
};
const needs = { cgi: "python", fastcgi: "flup", scgi: "flup" };
const say = (word, text) => document.querySelectorAll(`[data-word=${word}]`).forEach((node) => { node.textContent = text; });

let chosen = "cgi";
let asked = 0;

async function ask() {
  const turn = ++asked;
  const started = performance.now();
  try {
    const response = await fetch(`${chosen}/`, { cache: "no-store" });
    const text = await response.text();
    if (turn !== asked) return; // a later question is on its way
    const time_ms = performance.now() - started;
    say("time", response.ok ? time_ms.toFixed(time_ms < 100 ? 1 : 0) : response.status);
    say("unit", response.ok ? "ms in this browser" : response.statusText);
    say("answer", response.ok ? text : "The gateway's log tells why.");
  } catch (error) {
    say("time", "–");
    say("answer", `No answer: ${error.message}`);
  }
}

function choose(name) {
  chosen = name;
  for (const button of document.querySelectorAll("[data-interface]")) {
    button.setAttribute("aria-pressed", String(button.dataset.interface === name));
  }
  const route = routes[name];
  say("path", name);
  say("interface", name);
  say("target", route.target);
  say("value", route.value);
  say("story", route.story);
  document.querySelector("[data-word=environment]").href = `${name}/environment`;
  ask();
}

let stopping = new AbortController();

async function stream(path) {
  stopping.abort(); // the gateway ends what a client no longer wants
  const mine = stopping = new AbortController();
  const screen = document.getElementById("screen");
  screen.textContent = "";
  try {
    const response = await fetch(path, { cache: "no-store", signal: mine.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      if (mine.signal.aborted) return;
      screen.textContent += piece.value;
      screen.scrollTop = screen.scrollHeight;
    }
  } catch (error) {
    if (!mine.signal.aborted) screen.textContent += `\n${error.message}`;
  }
}

for (const button of document.querySelectorAll("[data-interface]")) {
  button.disabled = needs[button.dataset.interface] in missing;
  button.addEventListener("click", () => choose(button.dataset.interface));
}
for (const button of document.querySelectorAll("[data-stream]")) {
  button.addEventListener("click", () => stream(button.dataset.stream));
}
document.getElementById("again").addEventListener("click", ask);

for (const node of document.querySelectorAll("[data-needs]")) {
  if (!(node.dataset.needs in missing)) continue;
  if (node.tagName === "A") {
    node.setAttribute("aria-disabled", "true");
    node.removeAttribute("href");
  } else {
    node.disabled = true;
  }
}
const list = document.getElementById("missing");
for (const text of Object.values(missing)) {
  list.hidden = false;
  list.appendChild(document.createElement("li")).textContent = text;
}
choose(missing.python ? "http" : "cgi");
