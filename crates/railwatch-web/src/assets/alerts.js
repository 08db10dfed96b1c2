// Alerts: the list, and one with its evidence and its life.

import { h } from "./dom.js";
import { agentPath, alertPath, count, inUnit, kind, percent, score, span, times, usd } from "./format.js";
import { ask, may } from "./store.js";
import { actions, badge, moment } from "./fleet.js";
import { contributions } from "./agent.js";
import { velocity } from "./charts.js";

export function list() {
  const query = new URLSearchParams(location.search);
  const all = query.get("show") === "all";
  const path = (cursor) => `/v1/alerts?limit=50&all=${all}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`;
  const page = {
    title: "Alerts", name: "alerts", every: 1500,
    async load(known) {
      const fresh = await ask(path());
      const ids = new Set(fresh.items.map((alert) => alert.id));
      const rest = (known?.items ?? []).slice(50).filter((alert) => !ids.has(alert.id));
      return { ...fresh, items: [...fresh.items, ...rest], next: rest.length ? known.next : fresh.next };
    },
    async more() {
      const next = await ask(path(page.data.next));
      page.data = { ...next, items: [...page.data.items, ...next.items] };
    },
    view(data) {
      return [
        h("header", { class: "headline" }, h("h1", {}, "Alerts"), h("p", {}, data ? (all ? "open and resolved" : `${count(data.total)} open`) : "…")),
        h("div", { class: "filters" },
          h("span", { class: "tabs" }, h("a", { href: "/alerts", "aria-current": all ? undefined : "true" }, "Open"), h("a", { href: "/alerts?show=all", "aria-current": all ? "true" : undefined }, "All")),
          h("span", { class: "grow" }), h("a", { href: "/v1/export/alerts?format=csv", download: true }, "CSV")),
        data && (data.items.length
          ? h("ul", { class: "alert-list" }, data.items.map((alert) => h("li", { class: `card ${alert.severity} ${alert.state}`, "data-key": alert.id, "data-row": true, "data-alert": alert.id },
            h("div", { class: "line" }, badge(alert.severity), h("span", { class: `state ${alert.state}` }, alert.state), h("strong", {}, kind(alert.trigger)), h("span", { class: "grow" }), moment(alert.opened_at)),
            h("p", {}, h("a", { href: alertPath(alert.id) }, alert.summary)),
            h("small", {}, `${usd(alert.spent_since_onset)} since its onset`, alert.acknowledged_by && ` · taken by ${alert.acknowledged_by}`, alert.silenced_by && " · silenced"))))
          : h("div", { class: "card empty" }, h("h2", {}, "Nothing is open"), h("p", {}, "When an agent does something that it usually does not, it shows up here."))),
        data?.next && h("p", { class: "center" }, h("button", { type: "button", "data-act": "more" }, "Show more")),
      ];
    },
  };
  return page;
}

const labels = (alert) => may("responder") && h("div", { class: "actions labels" }, [["true_positive", "Something was wrong"], ["false_positive", "Nothing was wrong"], ["expected", "Intended"]].map(([verdict, text]) => h("button", { type: "button", "data-act": "label", "data-id": alert.id, "data-verdict": verdict }, text)));

/** Alerts that nobody has labelled, and how often each trigger was right. */
export function reviews() {
  return {
    title: "Reviews", name: "reviews", every: 3000,
    async load() {
      const [queue, precision] = await Promise.all([ask("/v1/reviews?limit=50"), ask("/v1/reviews/precision")]);
      return { queue, precision };
    },
    view(data) {
      return [
        h("header", { class: "headline" }, h("h1", {}, "Reviews"), h("p", {}, data ? `${count(data.queue.length)} alerts wait for a word` : "…")),
        data && (data.queue.length
          ? h("ul", { class: "alert-list" }, data.queue.map((alert) => h("li", { class: `card ${alert.severity}`, "data-key": alert.id, "data-row": true },
            h("div", { class: "line" }, badge(alert.severity), h("span", { class: `state ${alert.state}` }, alert.state), h("strong", {}, kind(triggerOf(alert))), h("span", { class: "grow" }), moment(alert.opened_at)),
            h("p", {}, h("a", { href: alertPath(alert.id) }, alert.summary)),
            labels(alert))))
          : h("div", { class: "card empty" }, h("h2", {}, "Nothing waits for a review"), h("p", {}, "Every alert was labelled. Labels tell how often each trigger is right, and how to tune it."))),
        data?.precision.length > 0 && h("section", { class: "card" }, h("h2", {}, "How often each trigger was right"), h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Precision" }, h("table", {},
          h("thead", {}, h("tr", {}, ["Trigger", "Wrong indeed", "Nothing wrong", "Intended", "Precision"].map((name, i) => h("th", { scope: "col", class: i > 0 ? "n" : "" }, name)))),
          h("tbody", {}, data.precision.map((one) => h("tr", { "data-key": one.trigger }, h("th", { scope: "row" }, kind(one.trigger)),
            h("td", { class: "n" }, count(one.true_positives)), h("td", { class: "n" }, count(one.false_positives)), h("td", { class: "n" }, count(one.expected)),
            h("td", { class: "n" }, one.precision === null ? "–" : percent(one.precision)))))))),
      ];
    },
  };
}

const triggerOf = (alert) => alert.trigger.signal ?? alert.trigger.condition ?? `rule ${alert.trigger.rule}`;

const FACTS = {
  payments_per_hour: ["Payments per hour", (v) => v.toFixed(0)], payments_per_hour_usual: ["Usually", (v) => `${v.toFixed(1)} per hour`],
  days_until_empty: ["Empty in", (v) => span(v * 86400)], days_left: ["Period ends in", (v) => span(v * 86400)],
  percent_used: ["Used", (v) => `${v.toFixed(1)}%`], projected_usd: ["At the end of the period", usd],
  burn_acceleration: ["Faster than yesterday by", (v) => `${(100 * v).toFixed(0)}%`],
  jsd: ["Distance from its usual rails", (v) => v.toFixed(2)], dominant: ["One rail dominates", (v) => (v > 0 ? "yes" : "no")],
  loop: ["Pays one payee over and over", (v) => (v > 0 ? "yes" : "no")], payments: ["Payments", (v) => v.toFixed(0)],
};

function evidence(alert) {
  const signal = alert.signal;
  if (!signal) return h("p", { class: "empty" }, "A rule of yours fired; the sentence above is its own.");
  const rows = [
    ["Now", inUnit(signal.value, signal.unit)],
    ["Usual", `${inUnit(signal.usual, signal.unit)}${times(signal.value, signal.usual) && ` (${times(signal.value, signal.usual)})`}`],
    signal.evidence > 1 && ["By chance alone", `once in ${count(Math.round(Math.exp(Math.min(signal.evidence, 30))))}`],
    signal.since && ["Since", moment(signal.since)],
    ["Beyond the usual", usd(signal.excess)],
    signal.about && ["About", signal.about],
    signal.basis.learned_hours > 0 && ["Learned from", `${span(signal.basis.learned_hours * 3600)} of its life${signal.basis.weeks ? `, ${signal.basis.weeks} weeks of this hour` : ""}`],
    ...signal.facts.map(([name, value]) => { const [label, show] = FACTS[name] ?? [name, (v) => v.toFixed(3)]; return [label, show(value)]; }),
  ].filter(Boolean);
  return h("dl", { class: "rows" }, rows.map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]));
}

export function page(id) {
  const path = `/v1/alerts/${encodeURIComponent(id)}`;
  return {
    title: "Alert", name: "alert", every: 1500,
    async load() {
      const [alert, history] = await Promise.all([ask(path), ask(`${path}/history`)]);
      const name = alert.subject.agent;
      const series = name ? await ask(`/v1${agentPath(name)}/series?hours=6`).catch(() => null) : null;
      return { alert, history, series, name };
    },
    view(data) {
      if (!data) return h("p", { class: "loading" }, "Reading …");
      const { alert, history, series, name } = data;
      const trigger = triggerOf(alert);
      const isSpeed = trigger === "velocity";
      return [
        h("header", { class: "headline", "data-alert": alert.id },
          h("p", { class: "crumb" }, h("a", { href: "/alerts" }, "Alerts"), " / ", name ? h("a", { href: agentPath(name) }, name) : JSON.stringify(alert.subject).replaceAll(/["{}]/g, "")),
          h("h1", {}, kind(trigger), badge(alert.severity), h("span", { class: `state ${alert.state}` }, alert.state)),
          h("p", { class: "lead" }, alert.summary),
          actions(alert), alert.state === "resolved" && labels(alert)),
        h("dl", { class: "figures card" },
          [["Spent since the onset", usd(alert.spent_since_onset), moment(alert.onset_at)], ["Score", score(alert.score), "0 to 1"], ["Opened", moment(alert.opened_at), `${span((Date.parse(alert.opened_at) - Date.parse(alert.onset_at)) / 1000)} after the onset`],
            alert.silenced_by && ["Silenced by", alert.silenced_by, "railwatch silence list"], alert.acknowledged_by && ["Taken by", alert.acknowledged_by, alert.note ?? ""], alert.resolved_at && ["Resolved", moment(alert.resolved_at), alert.note ?? ""]]
            .filter(Boolean).map(([label, value, note]) => h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, value, h("small", {}, note))))),
        series && h("section", { class: "card" }, h("h2", {}, "Spend velocity"), velocity(series, isSpeed && alert.signal ? alert.signal.usual : 0, [{ ...alert, trigger }])),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "Evidence"), evidence(alert)),
          h("section", { class: "card" }, h("h2", {}, "How the score came about"), contributions(alert))),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "What happened"), h("ol", { class: "timeline" }, history.items.map((step, i) => h("li", { "data-key": `${step.seq}-${i}`, class: step.state }, moment(step.at), h("strong", {}, step.state), badge(step.severity), h("p", {}, step.summary))))),
          h("section", { class: "card" }, h("h2", {}, "Payments that matter most"), alert.payments.length ? h("ul", { class: "plain" }, alert.payments.map((payment) => h("li", {}, h("code", {}, payment)))) : h("p", { class: "empty" }, "None is named."))),
        h("p", { class: "dim" }, `${alert.id} · incident ${alert.incident} · generation ${alert.generation} · journal ${alert.opened_seq}`),
      ];
    },
  };
}

