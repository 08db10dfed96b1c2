// The fleet: what happened, whom to look at, and how every rail does.

import { h } from "./dom.js";
import { band, spark } from "./charts.js";
import { agentPath, ago, alertPath, count, days, exactly, kind, percent, rate, score, span, times, usd, when } from "./format.js";
import { ask, may, state } from "./store.js";

export const badge = (severity) => severity && h("span", { class: `badge ${severity}` }, severity);
/** A name from outside: one line, whole on hovering, each in its own direction. */
export const name = (text) => h("bdi", { class: "name", title: text }, text);
export const moment = (at, text = when(at)) => h("time", { datetime: at, title: exactly(at) }, text);
const ADVICE = { ok: "healthy", warn: "unusual", freeze: "stop and look" };
export const advice = (verdict) => h("span", { class: `advice ${verdict}` }, ADVICE[verdict]);

export const actions = (alert) => may("responder") && alert.state !== "resolved" && h("div", { class: "actions" },
  alert.state === "firing" && h("button", { type: "button", class: "primary", "data-act": "acknowledge", "data-id": alert.id }, "Acknowledge", h("kbd", {}, "a")),
  !alert.silenced_by && h("button", { type: "button", "data-act": "silence", "data-id": alert.id }, "Silence", h("kbd", {}, "s")),
  h("button", { type: "button", "data-act": "resolve", "data-id": alert.id }, "Resolve", h("kbd", {}, "r")));

/** Nobody took it and no silence hides it. */
export const isUntaken = (alert) => alert.state === "firing" && !alert.silenced_by;

/** The open alerts of one subject are one incident. */
function incidents() {
  const groups = new Map();
  for (const alert of state.alerts) groups.set(alert.subject, [...(groups.get(alert.subject) ?? []), alert]);
  // What happened says more than the score that follows from it.
  for (const group of groups.values()) group.sort((a, b) => (a.trigger === "review") - (b.trigger === "review"));
  return [...groups.values()];
}

const rowOf = (alert) => state.agents.find((agent) => `agent:${agent.agent}` === alert.subject);

const figure = (label, value, note, tone = "") => h("div", { class: `figure ${tone}` }, h("dt", {}, label), h("dd", {}, value, note && h("small", {}, note)));

/**
 * Which agent, on which rail, how fast, against what normal, how much is gone, when the money ends.
 * `row` is the agent as lists show it; `isFirst` stands out.
 */
export function incident(alerts, row, { isFirst = false, isHere = false } = {}) {
  const [alert] = alerts;
  const since = alert.onset_at;
  const lasts = span((Date.parse(state.fleet.now) - Date.parse(since)) / 1000);
  const budget = row?.budget;
  const speed = row?.velocity;
  return h("article", { class: `incident ${alert.severity} ${alert.state} ${isFirst ? "first" : ""}`, "data-key": alert.subject, "data-alert": alert.id, "data-row": true },
    h("header", {}, badge(alert.severity),
      h("h2", {}, h("a", { href: alertPath(alert.id) }, isHere ? kind(alert.trigger) : name(alert.name))),
      h("span", { class: "since" }, "since ", moment(since), ` · ${lasts}`),
      alert.acknowledged_by && h("span", { class: "taken" }, `taken by ${alert.acknowledged_by}`),
      alert.silenced_by && h("span", { class: "taken" }, "silenced"),
      actions(alert)),
    row && h("dl", { class: "figures" },
      figure("Speed", rate(speed.value), speed.state === "learning" ? "still learning its usual" : `${times(speed.value, speed.usual) || "0×"} its usual ${rate(speed.usual)}`, speed.state),
      row.rail_name && figure("Rail", row.rail_name, `${percent(row.rail.value)} of the last hour, usually ${percent(row.rail.usual)}`, row.rail.state),
      figure("Spent since then", usd(alert.spent_since_onset), `in ${lasts}`),
      budget && figure("Budget", budget.percent_used >= 100 ? "used up" : budget.days_until_empty < budget.days_left ? `empty in ${days(budget.days_until_empty)}` : "will last", `${percent(budget.percent_used / 100)} used, ${days(budget.days_left)} to go`, budget.state),
      figure("Score", score(row.score), "of 1", row.score > 0.7 ? "firing" : "")),
    h("p", { class: "summary" }, alert.summary),
    alerts.length > 1 && h("ul", { class: "also" }, alerts.slice(1).map((one) => h("li", { "data-key": one.id }, badge(one.severity), h("a", { href: alertPath(one.id) }, kind(one.trigger)), h("span", {}, one.summary)))));
}

const LANES = {
  velocity: ["Dollars per hour against what each agent usually spends", (top) => [rate(top.value), times(top.value, top.usual) && `${times(top.value, top.usual)} usual`]],
  rail_shift: ["Each rail's share of an agent's last hour against its history", (top) => [percent(top.value), `${top.about ?? ""}, usually ${percent(top.usual)}`]],
  budget: ["Whether the money lasts as long as the period", (top) => [top.about === null ? "–" : Number(top.about) >= 1000 ? "lasts" : days(Number(top.about)), "until empty"]],
  score: ["All signals together; above the line a person looks", (top) => [score(top.value), top.state === "usual" ? "" : `review above ${score(top.usual)}`]],
};

function lane({ signal, learning, usual, raised, firing, top }) {
  const [about, describe] = LANES[signal];
  const whole = Math.max(learning + usual + raised + firing, 1);
  const states = [["firing", firing], ["raised", raised], ["usual", usual], ["learning", learning]];
  const bar = h("div", { class: "states", role: "img", "aria-label": states.map(([name, n]) => `${n} ${name}`).join(", ") });
  for (const [name, n] of states) if (n) {
    const part = h("span", { class: name });
    part.style.flexGrow = Math.max(n, whole / 60);
    bar.append(part);
  }
  return h("section", { class: `card lane ${firing ? "firing" : raised ? "raised" : ""}`, "data-key": signal },
    h("h3", { title: about }, kind(signal)),
    h("p", { class: "big" }, count(firing || raised) === "0" ? "calm" : count(firing || raised), h("small", {}, firing ? `of ${count(whole)} ${firing === 1 ? "fires" : "fire"}` : raised ? `of ${count(whole)} raised` : `all ${count(whole)} agents`)),
    bar,
    h("ol", {}, top.slice(0, 3).map((one) => {
      const [value, note] = describe(one);
      return h("li", { "data-key": one.agent, class: one.state }, h("a", { href: agentPath(one.agent) }, name(one.agent)), h("span", {}, value), h("small", {}, note));
    })));
}

function rail(one, whole) {
  const inBand = !one.usual ? "still learning its usual"
    : one.usd_per_hour > one.usual[1] * 1.5 && one.usd_per_hour > 0.01 ? `above its usual ${usd(one.usual[0])} – ${usd(one.usual[1])}`
    : `usually ${usd(one.usual[0])} – ${usd(one.usual[1])}`;
  return h("li", { "data-key": one.rail },
    h("div", { class: "which" }, h("strong", {}, one.rail), h("small", {}, inBand)),
    band(one.quarters, one.usual, { label: `${one.rail}, last six hours: now ${rate(one.usd_per_hour)}` }),
    h("div", { class: "now" }, h("strong", {}, rate(one.usd_per_hour)), h("small", {}, `${percent(whole > 0 ? one.usd_per_hour / whole : 0)} of all · ${usd(one.usd_day)} today`)));
}

/** A table of agents, as on the fleet's page and in the list. */
export function table(agents) {
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Agents" }, h("table", { class: "agents" },
    h("thead", {}, h("tr", {}, ["Agent", "Six hours", "Speed", "Rail", "Budget", "Score", "Spent", "Last paid"].map((title, i) => h("th", { scope: "col", class: [2, 5, 6, 7].includes(i) ? "n" : "" }, title)))),
    h("tbody", {}, agents.map((row) => {
      const { velocity, rail, budget } = row;
      const isHot = velocity.state === "firing" || velocity.state === "raised";
      const usual = velocity.state === "learning" ? "learning" : `${times(velocity.value, velocity.usual) || "0×"} of ${rate(velocity.usual)}`;
      return h("tr", { "data-key": row.agent, "data-row": true, class: row.verdict },
        h("th", { scope: "row" }, h("a", { href: agentPath(row.agent) }, name(row.agent)), h("small", {}, row.severity && badge(row.severity), row.team ?? "")),
        h("td", {}, spark(row.spark, { tone: isHot ? "hot" : "", label: `Six hours of ${row.agent}` })),
        h("td", { class: `n ${velocity.state}` }, rate(velocity.value), h("small", {}, usual)),
        h("td", { class: rail.state }, row.rail_name ?? "–", h("small", {}, row.rail_name ? `${percent(rail.value)}, usually ${percent(rail.usual)}` : "")),
        h("td", { class: budget?.state ?? "" }, budget ? meter(budget) : h("span", { class: "dim" }, "–")),
        h("td", { class: "n" }, h("span", { class: `score s${Math.min(9, Math.floor(row.score * 10))}` }, score(row.score))),
        h("td", { class: "n dim" }, usd(row.spent_usd), h("small", {}, `${count(row.purchases)} payments`)),
        h("td", { class: "n dim" }, moment(row.last_at, ago(row.last_at, Date.parse(state.fleet?.now ?? Date.now())))));
    }))));
}

function meter(budget) {
  const used = Math.min(budget.percent_used, 100);
  const runsOut = budget.days_until_empty < budget.days_left;
  const fill = h("i", { class: runsOut ? "hot" : "" });
  fill.style.width = `${used}%`;
  return [h("span", { class: "meter", role: "img", "aria-label": `${used.toFixed(0)}% of the budget used` }, fill),
    h("small", {}, `${budget.percent_used.toFixed(0)}%`, runsOut ? ` · empty in ${days(budget.days_until_empty)}` : "")];
}

async function firstRun() {
  return { status: await ask("/v1/status") };
}

/** Nothing was paid yet: what there is to do about it. */
export function welcome(data) {
  const sources = Object.entries(data?.status?.sources ?? {});
  return h("section", { class: "card welcome" },
    h("h1", {}, "railwatch is running and has seen no payment yet"),
    sources.length
      ? h("div", {}, h("p", {}, "These sources are configured. The first payment of any of them appears here by itself."),
        h("ul", { class: "sources" }, sources.map(([name, source]) => h("li", {}, h("span", { class: `phase ${source.phase}` }, source.phase), h("strong", {}, name), h("span", {}, source.detail)))))
      : h("p", {}, "No source is configured. Add one to the configuration; it takes effect when you save the file."),
    h("h2", {}, "Next"),
    h("ol", { class: "steps" },
      h("li", {}, "Name where payments come from:", h("pre", {}, "[sources.gate]\nplugin = \"websocket\"\nurl = \"wss://gate.example.com/payments\"")),
      h("li", {}, "Say who your agents are, so that their wallets and cards count as one:", h("pre", {}, "[[agents]]\nid = \"billing-7\"\nteam = \"billing\"\nbudget = \"$10,000 / month\"")),
      h("li", {}, "Or see it at work first: ", h("code", {}, "railwatch demo"))),
    h("p", {}, h("a", { href: "/rails" }, "How the sources are"), " · ", h("a", { href: "/reloads" }, "What was loaded")));
}

export function page() {
  return {
    title: "Fleet", name: "fleet",
    load: () => (state.fleet?.agents ? Promise.resolve({}) : firstRun()),
    view(data) {
      const fleet = state.fleet;
      if (!fleet) return null;
      if (!fleet.agents) return welcome(data);
      const groups = incidents();
      const [open, taken] = [groups.filter((alerts) => alerts.some(isUntaken)), groups.filter((alerts) => !alerts.some(isUntaken))];
      const untaken = open.length;
      return [
        h("header", { class: "headline" },
          h("h1", {}, untaken ? `${count(untaken)} ${untaken === 1 ? "incident needs" : "incidents need"} you` : "All calm"),
          h("p", {}, h("strong", {}, rate(fleet.usd_per_hour)), " now · ", usd(fleet.usd_day), " in 24 hours · ", `${count(fleet.active)} of ${count(fleet.agents)} agents active`)),
        open.length > 0 && h("section", { class: "incidents", "aria-label": "Incidents" }, open.slice(0, 5).map((alerts, i) => incident(alerts, rowOf(alerts[0]), { isFirst: i === 0 })),
          open.length > 5 && h("p", {}, h("a", { href: "/alerts" }, `${count(open.length - 5)} more incidents`))),
        h("section", { class: "lanes", "aria-label": "The four signals" }, fleet.lanes.map(lane)),
        taken.length > 0 && h("section", { class: "card" }, h("h2", {}, "Taken or silenced"), h("ul", { class: "taken-list" }, taken.slice(0, 8).map(([alert]) => h("li", { "data-key": alert.id, "data-row": true, "data-alert": alert.id }, badge(alert.severity), h("a", { href: alertPath(alert.id) }, name(alert.name)), h("span", {}, kind(alert.trigger)), h("small", {}, alert.acknowledged_by ? `by ${alert.acknowledged_by}` : "silenced"))))),
        h("section", { class: "card" }, h("h2", {}, "Rails ", h("small", {}, "last six hours in the usual band of each")), h("ul", { class: "rails" }, fleet.rails.slice(0, 8).map((one) => rail(one, fleet.usd_per_hour)))),
        h("section", { class: "card" }, h("h2", {}, "Agents that need a look ", h("a", { class: "more", href: "/agents" }, `all ${count(fleet.agents)}`)), table(state.agents.slice(0, 12))),
      ];
    },
  };
}

