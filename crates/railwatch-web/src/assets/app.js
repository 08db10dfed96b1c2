// The frame around the pages: addresses, keys, the person who acts, and when to draw.

import { h, children } from "./dom.js";
import { act, actor, ask, connect, may, onChange, setActor, signIn, state } from "./store.js";
import { agentPath, count, exactly, time, when } from "./format.js";
import * as fleet from "./fleet.js";
import * as agent from "./agent.js";
import * as alerts from "./alerts.js";
import { VERDICTS } from "./alerts.js";
import * as system from "./system.js";
import { patch } from "./system.js";

const PAGES = [
  ["/", "Fleet", fleet.page],
  ["/agents", "Agents", agent.list],
  ["/alerts", "Alerts", alerts.list],
  ["/reviews", "Reviews", alerts.reviews],
  ["/rails", "Rails", system.rails],
  ["/rules", "Rules", system.rules],
  ["/reloads", "Reloads", system.reloads],
];
const main = document.getElementById("main");
const dialog = document.getElementById("dialog");
const search = document.getElementById("q");
let current = null;

/** The page of an address: `{ title, load?, view }`; `load` fetches, `view` draws from what was fetched. */
function route(path) {
  const [, first, second] = path.split("/").map(decodeURIComponent);
  if (first === "agents" && second) return agent.page(second);
  if (first === "alerts" && second) return alerts.page(second);
  const found = PAGES.find(([address]) => address === path) ?? PAGES[0];
  return found[2]();
}

function show(path = location.pathname) {
  current?.stop?.();
  current = route(path);
  current.path = path;
  current.data = undefined;
  current.error = null;
  main.replaceChildren();
  window.scrollTo(0, 0);
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.pathname === "/" ? path === "/" : path.startsWith(link.pathname);
    link.toggleAttribute("data-here", here);
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  draw();
  load();
}

let loading = false;
async function load() {
  const page = current;
  if (!page?.load || loading || state.me.needs_token) return;
  loading = true;
  try {
    page.data = await page.load(page.data);
    page.error = null;
  } catch (problem) {
    page.error = problem;
  } finally {
    loading = false;
  }
  page.loadedAt = Date.now();
  if (page === current) draw(); else load();
}

export function go(path) {
  history.pushState(null, "", path);
  show(path.split("?")[0]);
  main.focus({ preventScroll: true });
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    document.title = `${state.alerts.length ? `(${state.alerts.length}) ` : ""}${current.title} · railwatch`;
    const body = h("div", { class: `page ${current.name ?? ""}` });
    if (state.me.needs_token) body.append(signInForm());
    else if (current.error && current.data === undefined) body.append(failed(current.error));
    else if (!state.fleet && !current.error) body.append(skeleton());
    else body.append(...[current.view(current.data)].flat(Infinity).filter(Boolean));
    children(main, h("main", {}, body));
    status();
  });
}

const skeleton = () => h("p", { class: "loading" }, "Connecting to railwatch …");
const failed = (problem) => h("div", { class: "card empty", role: "alert" }, h("h1", {}, problem.status === 404 ? "There is no such thing" : "This cannot be shown"), h("p", {}, problem.message), h("p", {}, h("a", { href: "/" }, "Back to the fleet")));

const signInForm = () => h("form", { class: "card signin", "data-form": "sign-in" },
  h("h1", {}, "Sign in"),
  h("p", {}, "This railwatch needs a token. Its administrator makes one with ", h("code", {}, "railwatch token NAME"), "."),
  h("label", { for: "token" }, "Token"),
  h("input", { id: "token", type: "password", autocomplete: "current-password", required: true }),
  h("p", { class: "problem", id: "sign-in-problem", role: "alert" }),
  h("button", { class: "primary" }, "Sign in"));

function status() {
  const box = document.getElementById("status");
  const [tone, text] = state.me.needs_token ? ["off", "signed out"]
    : !state.connected ? ["off", "reconnecting"]
    : state.stale ? ["slow", "no news"] : ["on", "live"];
  const now = state.fleet ? time(state.fleet.now) : "";
  children(box, h("div", {}, h("span", { class: `pulse ${tone}` }), h("span", {}, text), now && h("time", { title: exactly(state.fleet.now) }, now)));
  box.removeAttribute("aria-busy");
}

export function toast(text, tone = "") {
  const item = h("p", { class: `toast ${tone}` }, text);
  document.getElementById("toasts").append(item);
  setTimeout(() => item.remove(), 6000);
}

/** Asks for what an action needs; resolves with the fields, or with null if the person thinks better of it. */
function askFor(title, fields, button, shown = () => {}) {
  dialog.replaceChildren(h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title),
    fields.map(({ name, label, value, hint, required, rows, text, node }) => text ? [node, h("p", { class: "preview", id: `f-${name}`, role: "status" }, text)] : [
      h("label", { for: `f-${name}` }, label),
      rows ? h("textarea", { id: `f-${name}`, name, rows, maxlength: 500 }) : h("input", { id: `f-${name}`, name, value, required, maxlength: 100, autocomplete: "off", pattern: "[ -~]+", title: "letters, digits and signs of ASCII" }),
      hint && h("p", { class: "hint" }, hint),
    ]),
    h("menu", {}, h("button", { value: "", type: "submit", formnovalidate: true }, "Cancel"), h("button", { value: "ok", class: "primary", type: "submit" }, button))));
  dialog.showModal();
  shown();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const values = Object.fromEntries(new FormData(dialog.querySelector("form")));
      resolve(dialog.returnValue === "ok" ? values : null);
    };
  });
}

/** Asks for a name if there is none yet, does it, says what came of it, and draws again. */
async function inMyName(title, fields, button, run, shown, role = "responder") {
  if (!may(role)) return toast("Your token may look, and not act.", "bad");
  if (!state.me.name) fields.unshift({ name: "by", label: "Your name", value: actor(), required: true, hint: "It goes into the audit." });
  const given = await askFor(title, fields, button, shown);
  if (!given) return;
  if (given.by) setActor(given.by.trim());
  try {
    toast(await run(given), "good");
    load();
  } catch (problem) {
    toast(problem.message, "bad");
  }
}

const noteField = () => ({ name: "note", label: "Note for the others (optional)", rows: 2 });

function change(verb, id) {
  const word = verb === "acknowledge" ? "Acknowledge" : "Resolve";
  return inMyName(`${word} this incident`, [noteField()], word, async (given) => {
    await act(`/v1/alerts/${encodeURIComponent(id)}/${verb}`, { note: given.note || null });
    return verb === "acknowledge" ? `Taken by ${actor()}.` : "Resolved.";
  });
}

/** What a silence would hide, said while the person still thinks about it. */
async function preview(id) {
  const form = dialog.querySelector("form");
  const said = dialog.querySelector("#f-preview");
  if (!form || !said) return;
  const lasts = form.elements.lasts.value.trim();
  try {
    const { silence, open, last_week: week, last_week_severe: severe } = await act("/v1/silences/preview", { alert: id, for: lasts, reason: form.elements.reason.value.trim() || "a preview" }, actor() || "a preview");
    said.textContent = `Hides ${count(open.length)} open ${open.length === 1 ? "alert" : "alerts"} until ${when(silence.until)}. Last week it would have hidden ${count(week)}${severe ? `, ${count(severe)} of them high or critical` : ""}.`;
    said.className = severe > 5 ? "preview bad" : "preview";
  } catch (problem) {
    said.textContent = problem.message;
    said.className = "preview bad";
  }
}

function silence(id) {
  const fields = [
    { name: "lasts", label: "For how long", value: "1h", required: true, hint: "Such as 30m, 2h or 3d. It hides this trigger of this subject; everything else still alerts." },
    { name: "reason", label: "Why", value: "", required: true },
    { name: "preview", text: "…" },
  ];
  return inMyName("Silence this alert", fields, "Silence", async (given) => {
    await act("/v1/silences", { alert: id, for: given.lasts, reason: given.reason });
    return `Silenced for ${given.lasts}.`;
  }, () => {
    preview(id);
    dialog.querySelector("#f-lasts").addEventListener("input", () => preview(id));
  });
}

function unsilence(id) {
  return inMyName("End this silence", [], "End it", async () => {
    await act(`/v1/silences/${encodeURIComponent(id)}/expire`);
    return "The silence is over; what is still open is told now.";
  });
}

/** Goes back to a generation, after a look at what that changes. */
async function rollback(number) {
  const { generation } = await ask("/v1/status");
  const diffs = await ask(`/v1/generations/${number}/diff?from=${generation}`).catch((problem) => problem);
  const shown = diffs instanceof Error ? h("p", { class: "preview bad" }, diffs.message) : h("div", { class: "patches" }, patch(diffs));
  return inMyName(`Go back to generation ${number}`, [{ name: "patch", node: shown, text: "The files stay as they are; the next saved edit, or “Read the files again”, takes them." }], "Go back", async () => {
    const report = await act("/v1/reload", { to: Number(number) });
    return `Generation ${report.generation} is in force, with the content of generation ${number}.`;
  }, () => {}, "author");
}

function label(id, verdict) {
  return inMyName(`Say that ${VERDICTS[verdict]}`, [noteField()], "Save", async (given) => {
    await act(`/v1/alerts/${encodeURIComponent(id)}/label`, { verdict, note: given.note || null });
    return "Saved. Thresholds can be tuned with it.";
  });
}

const ACTIONS = {
  theme() {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    setTheme(dark ? "light" : "dark");
  },
  help() {
    const keys = [["/", "find an agent"], ["j  k", "next, previous"], ["Enter", "open"], ["a", "acknowledge"], ["s", "silence"], ["r", "resolve"], ["1 … 7", "pages"], ["t", "light or dark"], ["Esc", "back"], ["?", "this help"]];
    dialog.replaceChildren(h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, "Keys"),
      h("dl", { class: "keys" }, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
      h("menu", {}, h("button", { class: "primary" }, "Close"))));
    dialog.showModal();
  },
  acknowledge: (target) => change("acknowledge", target.dataset.id),
  resolve: (target) => change("resolve", target.dataset.id),
  silence: (target) => silence(target.dataset.id),
  unsilence: (target) => unsilence(target.dataset.id),
  rollback: (target) => rollback(target.dataset.id).catch((problem) => toast(problem.message, "bad")),
  label: (target) => label(target.dataset.id, target.dataset.verdict),
  reload: () => inMyName("Read the configuration again", [], "Read", async () => {
    const report = await act("/v1/reload");
    return report.changed ? `Generation ${report.generation} is in force.` : "Nothing changed.";
  }, () => {}, "author"),
  more: () => current.more?.().then(draw),
};

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("railwatch.theme", theme);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) { event.preventDefault(); return ACTIONS[button.dataset.act]?.(button); }
  const link = event.target.closest("a[href]");
  const isOurs = link && link.origin === location.origin && !link.hasAttribute("download") && !link.target && !link.pathname.startsWith("/v1") && link.getAttribute("href")[0] !== "#";
  if (isOurs && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
    event.preventDefault();
    go(link.pathname + link.search);
    return;
  }
  // A row leads where its first link does, unless a person selects text.
  const row = event.target.closest("[data-row]");
  if (row && !String(getSelection())) row.querySelector("a[href]")?.click();
});

document.addEventListener("toggle", (event) => {
  if (event.target.open) current.opened?.(event.target)?.then(draw);
}, true);

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form");
  if (form.id === "search") {
    event.preventDefault();
    const q = search.value.trim();
    if (!q) return;
    const found = await ask(`/v1/agents?limit=1&q=${encodeURIComponent(q)}`).catch(() => null);
    const exact = state.agents.find((row) => row.agent === q) ?? (found?.total === 1 && found.items[0]);
    search.blur();
    go(exact ? agentPath(exact.agent) : `/agents?q=${encodeURIComponent(q)}`);
  } else if (form.dataset.form === "sign-in") {
    event.preventDefault();
    signIn(form.elements.token.value).then(load).catch((problem) => { document.getElementById("sign-in-problem").textContent = problem.message; });
  }
});

document.addEventListener("change", (event) => {
  if (event.target.dataset.query) {
    const query = new URLSearchParams(location.search);
    if (event.target.value) query.set(event.target.dataset.query, event.target.value); else query.delete(event.target.dataset.query);
    go(`${location.pathname}?${query}`);
  }
});

search.addEventListener("input", async () => {
  const q = search.value.trim();
  if (q.length < 2) return;
  const found = await ask(`/v1/agents?limit=8&q=${encodeURIComponent(q)}`).catch(() => ({ items: [] }));
  document.getElementById("found").replaceChildren(...found.items.map((row) => h("option", { value: row.agent })));
});

function move(by) {
  const rows = [...main.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))];
  next.querySelector("a[href]")?.focus();
  next.scrollIntoView({ block: "nearest" });
}

/** The alert that a key is about: that of the row in focus, of the page, or the most urgent one. */
function alertInHand() {
  const row = document.activeElement?.closest?.("[data-alert]") ?? main.querySelector("[data-alert]");
  return row?.dataset.alert ?? state.alerts[0]?.id;
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.key === "Escape" && typing === search) return search.blur();
  if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
  const keys = {
    "/": () => search.focus(), j: () => move(1), k: () => move(-1), t: ACTIONS.theme, "?": ACTIONS.help,
    a: () => alertInHand() && change("acknowledge", alertInHand()),
    s: () => alertInHand() && silence(alertInHand()),
    r: () => alertInHand() && change("resolve", alertInHand()),
    Escape: () => (location.pathname === "/" ? null : history.length > 1 ? history.back() : go("/")),
  };
  const page = PAGES[Number(event.key) - 1];
  const run = keys[event.key] ?? (page && (() => go(page[0])));
  if (run) { event.preventDefault(); run(); }
});

const theme = localStorage.getItem("railwatch.theme");
if (theme) document.documentElement.dataset.theme = theme;
document.getElementById("nav").append(...PAGES.map(([path, name]) => h("a", { href: path }, name)));
addEventListener("popstate", () => show());
onChange((what) => {
  if (what === "me" && !state.me.needs_token) load();
  // Pages with facts of their own are read again while something changes, at most every few seconds.
  if (what === "frame" && current?.load && Date.now() - (current.loadedAt ?? 0) > (current.every ?? 4000)) load();
  draw();
});
show();
connect();
