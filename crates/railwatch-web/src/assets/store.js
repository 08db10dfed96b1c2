// The connection to railwatch: one live stream for every page, requests, and what a person may do.

export const state = {
  fleet: null, agents: [], alerts: [], connected: false, stale: false, me: { name: null, role: null, needs_token: false },
};

const listeners = new Set();
export const onChange = (listener) => { listeners.add(listener); return () => listeners.delete(listener); };
const changed = (what) => { for (const listener of listeners) listener(what); };

export class Problem extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

/** A request; answers with JSON or throws a Problem with the server's own words. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem(0, "railwatch does not answer; is it running?");
  }
  const body = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.status === 401) { state.me = { ...state.me, needs_token: true }; changed("me"); }
  if (!response.ok) throw new Problem(response.status, body?.detail ?? response.statusText);
  return body;
}

export const actor = () => state.me.name ?? localStorage.getItem("railwatch.actor") ?? "";
export const setActor = (name) => localStorage.setItem("railwatch.actor", name);

/** Does something in the actor's name. */
export function act(path, body = {}, by = actor()) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Railwatch-By": by },
    body: JSON.stringify(body),
  });
}

const ROLES = ["viewer", "responder", "author", "admin"];
export const may = (role) => ROLES.indexOf(state.me.role) >= ROLES.indexOf(role);

const byName = new Map();
const byId = new Map();

function take(frame, isSnapshot) {
  if (isSnapshot) { byName.clear(); byId.clear(); }
  for (const agent of frame.agents) byName.set(agent.agent, agent);
  for (const alert of frame.alerts) byId.set(alert.id, alert);
  state.fleet = frame.fleet;
  state.agents = frame.order.map((name) => byName.get(name)).filter(Boolean);
  state.alerts = frame.alerts_order.map((id) => byId.get(id)).filter(Boolean);
  const shown = new Set(frame.order);
  for (const name of byName.keys()) if (!shown.has(name)) byName.delete(name);
  const open = new Set(frame.alerts_order);
  for (const id of byId.keys()) if (!open.has(id)) byId.delete(id);
  state.connected = true;
  lastFrame = Date.now();
  changed("frame");
}

let stream = null;
let lastFrame = 0;
let retry = 1000;

/** Opens the stream. EventSource itself resumes with the id of its last event. */
export async function connect() {
  try {
    state.me = await ask("/v1/session");
  } catch (problem) {
    state.connected = false;
    changed("me");
    setTimeout(connect, retry);
    retry = Math.min(retry * 2, 15000);
    return;
  }
  retry = 1000;
  changed("me");
  if (state.me.needs_token) return;
  stream?.close();
  stream = new EventSource("/v1/live");
  stream.addEventListener("snapshot", (event) => take(JSON.parse(event.data), true));
  stream.addEventListener("change", (event) => take(JSON.parse(event.data), false));
  stream.addEventListener("error", () => {
    state.connected = false;
    changed("connection");
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

/** Signs in with a token; the browser keeps a cookie that no script can read. */
export async function signIn(token) {
  state.me = await ask("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
  await connect();
}

setInterval(() => {
  const stale = state.connected && Date.now() - lastFrame > 15000;
  if (stale !== state.stale) { state.stale = stale; changed("connection"); }
}, 1000);
