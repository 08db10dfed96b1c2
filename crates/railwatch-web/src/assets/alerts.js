// Alerts: the list, and one with its evidence and its life.

import { h } from "./dom.js";
import { agentPath, alertPath, count, inUnit, kind, left, percent, score, span, times, usd } from "./format.js";
import { ask, may } from "./store.js";
import { actions, badge, moment } from "./fleet.js";
import { contributions, payments } from "./agent.js";
import { velocity } from "./charts.js";

const TABS = [["", "Open"], ["all", "All"], ["silences", "Silences"]];

const tabs = (here) => h("div", { class: "filters" },
  h("span", { class: "tabs" }, TABS.map(([show, title]) => h("a", { href: show ? `/alerts?show=${show}` : "/alerts", "aria-current": show === here ? "true" : undefined }, title))),
  h("span", { class: "grow" }), h("a", { href: "/v1/export/alerts?format=csv", download: true }, "CSV"));

function item(alert) {
  return h("li", { class: `card ${alert.severity} ${alert.state}`, "data-key": alert.id, "data-row": true, "data-alert": alert.id },
    h("div", { class: "line" }, badge(alert.severity), h("span", { class: `state ${alert.state}` }, alert.state), h("strong", {}, kind(alert.trigger)), h("span", { class: "grow" }), moment(alert.opened_at)),
    h("p", {}, h("a", { href: alertPath(alert.id) }, alert.summary)),
    h("small", {}, `${usd(alert.spent_since_onset)} since its onset`, alert.acknowledged_by && ` · taken by ${alert.acknowledged_by}`, alert.silenced_by && " · silenced"));
}

function silences() {
  return {
    title: "Silences", name: "alerts", every: 2000,
    load: () => ask("/v1/silences"),
    view: (found) => [
      h("header", { class: "headline" }, h("h1", {}, "Silences"), h("p", {}, found ? `${count(found.length)} in force or to come` : "…")),
      tabs("silences"),
      found && (found.length
        ? h("ul", { class: "alert-list" }, [...found].sort((a, b) => Date.parse(a.until) - Date.parse(b.until)).map(silenceCard))
        : h("div", { class: "card empty" }, h("h2", {}, "Nothing is silenced"), h("p", {}, "Silence an alert from its page, or a whole class of them with ", h("code", {}, "railwatch silence add team=growth --for 2h --reason \"…\""), "."))),
    ],
  };
}

export function list() {
  const show = new URLSearchParams(location.search).get("show") ?? "";
  if (show === "silences") return silences();
  const all = show === "all";
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
        tabs(show),
        data && (data.items.length
          ? h("ul", { class: "alert-list" }, data.items.map(item))
          : h("div", { class: "card empty" }, h("h2", {}, "Nothing is open"), h("p", {}, "When an agent does something that it usually does not, it shows up here."))),
        data?.next && h("p", { class: "center" }, h("button", { type: "button", "data-act": "more" }, "Show more")),
      ];
    },
  };
  return page;
}

/** What a person may say about an alert. */
export const VERDICTS = { true_positive: "something was wrong", false_positive: "nothing was wrong", expected: "unusual and intended" };

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
            h("small", {}, `${usd(alert.spent_since_onset)} since its onset · score ${score(alert.score)}`),
            labels(alert))))
          : h("div", { class: "card empty" }, h("h2", {}, "Nothing waits for a review"), h("p", {}, "Every alert was labelled. Labels tell how often each trigger is right, and how to tune it."))),
        data?.precision.length > 0 && h("section", { class: "card" }, h("h2", {}, "How often each trigger was right"), h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Precision" }, h("table", {},
          h("thead", {}, h("tr", {}, ["Trigger", "Something wrong", "Nothing wrong", "Intended", "Precision"].map((title, i) => h("th", { scope: "col", class: i > 0 ? "n" : "" }, title)))),
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

/** The silence that keeps an alert from people: the one it names, or one made from an alert like it that somebody took. */
const silenceOf = (alert, silences) => silences.find((one) => {
  const { agent, kind: about, ...others } = one.matcher;
  const isLike = agent !== null && agent === alert.subject.agent && about === (alert.trigger.signal ?? alert.trigger.rule);
  return one.id === alert.silenced_by || (isLike && conditions(others) === "");
});

const conditions = (matcher) => Object.entries(matcher).flatMap(([key, value]) => (key === "labels" ? Object.entries(value).map(([label, is]) => `${label}=${is}`) : value === null ? [] : [`${key}=${value}`])).join(" ");

function silenceCard(silence) {
  const now = Date.now();
  const isActive = Date.parse(silence.from) <= now;
  return h("li", { class: "card info", "data-key": silence.id },
    h("div", { class: "line" }, h("span", { class: `state ${isActive ? "acknowledged" : "usual"}` }, isActive ? "in force" : "to come"), h("code", {}, conditions(silence.matcher)), h("span", { class: "grow" }),
      h("span", {}, isActive ? `ends in ${left(silence.until)}, ` : "from ", moment(isActive ? silence.until : silence.from))),
    h("p", {}, silence.reason),
    h("div", { class: "line" }, h("small", {}, `by ${silence.by}${silence.until_resolved ? ", until what it hides is over" : ""}`), h("span", { class: "grow" }),
      may("responder") && h("button", { type: "button", "data-act": "unsilence", "data-id": silence.id }, "End it now")));
}

const NOTICE = { unknown: "sent?", dead: "given up" };

/** Where the money went, and who was told. */
function told(explained) {
  if (!explained) return null;
  const { rails, notices, label, payments: paid, generation } = explained;
  const whole = rails.reduce((sum, rail) => sum + Number(rail.usd), 0);
  return [
    h("div", { class: "two" },
      h("section", { class: "card" }, h("h2", {}, "Where the money went since then"), rails.length
        ? h("ul", { class: "contributions" }, [...rails].sort((a, b) => b.usd - a.usd).map((rail) => {
          const fill = h("i", {});
          fill.style.width = `${whole > 0 ? (100 * rail.usd) / whole : 0}%`;
          return h("li", { "data-key": rail.rail }, h("span", {}, rail.rail, h("small", {}, ` ${count(rail.payments)} payments`)), h("span", { class: "meter" }, fill), h("strong", {}, usd(rail.usd)));
        }), explained.is_partial && h("li", {}, h("small", {}, "The journal goes on; this is its beginning.")))
        : h("p", { class: "empty" }, "No payment since then.")),
      h("section", { class: "card" }, h("h2", {}, "Who was told"), notices.length
        ? h("ul", { class: "plain" }, notices.map((notice) => h("li", { "data-key": String(notice.id) }, h("span", { class: `phase ${notice.state}` }, NOTICE[notice.state] ?? notice.state), " ", h("strong", {}, notice.sink), ` ${notice.occasion} `, h("small", {}, moment(notice.queued_at), notice.last_error && ` · ${notice.last_error}`))))
        : h("p", { class: "empty" }, "Nobody: no sink is configured, or a silence hid it."),
        label && h("p", { class: "said" }, `${label.by} says: ${VERDICTS[label.verdict]}.`, label.note && ` ${label.note}`))),
    paid.length > 0 && h("section", { class: "card" }, h("h2", {}, "Payments that matter most"), payments({ items: paid })),
    h("details", { class: "card" }, h("summary", {}, "All of this as text"), h("pre", { class: "code", tabindex: 0 }, explained.text),
      generation && h("p", { class: "dim" }, "Judged under ", h("a", { href: "/reloads" }, `generation ${generation.number}`), ", in force since ", moment(generation.at), ".")),
  ];
}

export function page(id) {
  const path = `/v1/alerts/${encodeURIComponent(id)}`;
  return {
    title: "Alert", name: "alert", every: 1500,
    async load(known) {
      // The journal is read for it: not as often as the rest.
      const isFresh = known && Date.now() - known.readAt < 6000;
      const [alert, history, silences] = await Promise.all([ask(path), ask(`${path}/history`), ask("/v1/silences")]);
      const agent = alert.subject.agent;
      const read = isFresh && known.alert.updated_at === alert.updated_at ? known : {
        readAt: Date.now(),
        explained: await ask(`${path}/explanation`),
        series: agent ? await ask(`/v1${agentPath(agent)}/series?hours=6`).catch(() => null) : null,
      };
      const { readAt, explained, series } = read;
      return { alert, history, silences, agent, readAt, explained, series };
    },
    view(data) {
      if (!data) return h("p", { class: "loading" }, "Reading …");
      const { alert, history, series, agent, explained } = data;
      const trigger = triggerOf(alert);
      const silence = silenceOf(alert, data.silences);
      const subject = agent ?? Object.values(typeof alert.subject === "string" ? [alert.subject] : alert.subject).join(" ");
      const figures = [
        ["Spent since the onset", usd(alert.spent_since_onset), moment(alert.onset_at)],
        alert.signal && ["Now", inUnit(alert.signal.value, alert.signal.unit), `${times(alert.signal.value, alert.signal.usual) && `${times(alert.signal.value, alert.signal.usual)} its `}usual ${inUnit(alert.signal.usual, alert.signal.unit)}`],
        ["Score", score(alert.score), "of 1"],
        ["Opened", moment(alert.opened_at), `${span((Date.parse(alert.opened_at) - Date.parse(alert.onset_at)) / 1000)} after the onset`],
        (silence || alert.silenced_by) && ["Silenced", silence ? `${left(silence.until)} left` : "over", silence ? `by ${silence.by}: ${silence.reason}` : alert.silenced_by],
        alert.acknowledged_by && ["Taken by", alert.acknowledged_by, alert.note ?? ""],
        alert.resolved_at && ["Resolved", moment(alert.resolved_at), alert.note ?? ""],
      ];
      return [
        h("header", { class: "headline", "data-alert": alert.id },
          h("p", { class: "crumb" }, h("a", { href: "/alerts" }, "Alerts"), " / ", agent ? h("a", { href: agentPath(agent) }, h("bdi", {}, agent)) : subject),
          h("h1", {}, kind(trigger), badge(alert.severity), h("span", { class: `state ${alert.state}` }, alert.state)),
          h("p", { class: "lead" }, alert.summary),
          alert.state === "resolved" ? labels(alert) : actions(alert),
          silence && may("responder") && h("button", { type: "button", "data-act": "unsilence", "data-id": silence.id }, "End the silence")),
        h("dl", { class: "figures card" }, figures.filter(Boolean).map(([title, value, note]) => h("div", { class: "figure" }, h("dt", {}, title), h("dd", {}, value, h("small", {}, note))))),
        series && h("section", { class: "card" }, h("h2", {}, "Spend velocity"), velocity(series, [{ ...alert, trigger }])),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "Evidence"), evidence(alert)),
          h("section", { class: "card" }, h("h2", {}, "How the score came about"), contributions(alert))),
        told(explained),
        h("section", { class: "card" }, h("h2", {}, "What happened"), h("ol", { class: "timeline" }, [...history.items].reverse().map((step, i) => h("li", { "data-key": `${step.seq}-${history.items.length - i}`, class: step.state }, moment(step.at), h("strong", {}, step.state), badge(step.severity), h("p", {}, step.summary))))),
        h("p", { class: "dim" }, `${alert.id} · incident ${alert.incident} · generation ${alert.generation} · journal ${alert.opened_seq}`),
      ];
    },
  };
}
