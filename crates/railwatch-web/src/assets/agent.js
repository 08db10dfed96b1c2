// One agent, and the list of all.

import { h } from "./dom.js";
import { burn, shares, velocity } from "./charts.js";
import { agentPath, count, inUnit, kind, rate, score, times, usd } from "./format.js";
import { ask } from "./store.js";
import { advice, incident, moment, name as named, table } from "./fleet.js";

const SORTS = { attention: "what needs a look", score: "score", velocity: "speed", ratio: "multiple of the usual", burn: "budget ends first", spend: "spent in all", recent: "last payment", name: "name" };

export function list() {
  const query = new URLSearchParams(location.search);
  const params = (cursor) => {
    const asked = new URLSearchParams({ limit: 50 });
    for (const key of ["q", "sort", "verdict", "team", "rail"]) if (query.get(key)) asked.set(key, query.get(key));
    if (cursor) asked.set("cursor", cursor);
    return asked;
  };
  const page = {
    title: "Agents", name: "agents", every: 3000,
    async load(known) {
      const fresh = await ask(`/v1/agents?${params()}`);
      // Pages that were opened stay; the first one is kept fresh.
      const names = new Set(fresh.items.map((row) => row.agent));
      const rest = (known?.items ?? []).slice(50).filter((row) => !names.has(row.agent));
      return { ...fresh, items: [...fresh.items, ...rest], next: rest.length ? known.next : fresh.next };
    },
    async more() {
      const next = await ask(`/v1/agents?${params(page.data.next)}`);
      page.data = { ...next, items: [...page.data.items, ...next.items] };
    },
    view(data) {
      const select = (name, label, options, value) => h("label", {}, label, h("select", { "data-query": name }, Object.entries(options).map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
      return [
        h("header", { class: "headline" }, h("h1", {}, query.get("q") ? `Agents like “${query.get("q")}”` : query.get("team") ? `Agents of ${query.get("team")}` : "Agents"), h("p", {}, data ? `${count(data.total)} ${data.total === 1 ? "agent" : "agents"}` : "…")),
        h("div", { class: "filters" },
          select("sort", "Order", SORTS, query.get("sort") ?? "attention"),
          select("verdict", "Show", { "": "all", warn: "unusual ones", freeze: "those to stop" }, query.get("verdict") ?? ""),
          (query.get("q") || query.get("team")) && h("a", { href: "/agents" }, "show all"),
          h("span", { class: "grow" }),
          h("a", { href: "/v1/export/agents?format=csv", download: true }, "CSV")),
        data && h("section", { class: "card" }, data.items.length ? table(data.items) : h("p", { class: "empty" }, query.size ? "No agent is like that." : "No agent has paid yet.")),
        data?.next && h("p", { class: "center" }, h("button", { type: "button", "data-act": "more" }, "Show more")),
      ];
    },
  };
  return page;
}

const fact = (label, value, note) => h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, value, note && h("small", {}, note)));

function signals(list) {
  const order = { firing: 0, raised: 1, usual: 2, learning: 3 };
  const rows = [...list].sort((a, b) => order[a.verdict] - order[b.verdict]);
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Signals" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Signal", "State", "Now", "Usual", "Chance alone", "Since"].map((name, i) => h("th", { scope: "col", class: i > 1 ? "n" : "" }, name)))),
    h("tbody", {}, rows.map((signal) => h("tr", { "data-key": signal.kind + (signal.about ?? "") },
      h("th", { scope: "row" }, kind(signal.kind), signal.about && h("small", {}, signal.about)),
      h("td", {}, h("span", { class: `state ${signal.verdict}` }, signal.verdict)),
      h("td", { class: "n" }, inUnit(signal.value, signal.unit)),
      h("td", { class: "n dim" }, inUnit(signal.usual, signal.unit)),
      h("td", { class: "n dim" }, signal.evidence > 1 ? `1 in ${count(Math.round(Math.exp(Math.min(signal.evidence, 30))))}` : "–"),
      h("td", { class: "n dim" }, signal.since ? moment(signal.since) : "–"))))));
}

export function contributions(alert) {
  const whole = Math.max(alert.score, 1e-9);
  return h("ul", { class: "contributions" }, alert.contributions.filter((part) => part.points > 0.0005).map((part) => {
    const fill = h("i", {});
    fill.style.width = `${Math.min(100, (100 * part.points) / Math.max(whole, 1))}%`;
    return h("li", {}, h("span", {}, kind(part.name)), h("span", { class: "meter" }, fill), h("strong", {}, score(part.points)));
  }), h("li", { class: "sum" }, h("span", {}, "Score"), h("span", {}), h("strong", {}, score(alert.score))));
}

/** `0.309400000 USD` is `0.3094 USD`: digits that say nothing go. */
const native = (amount) => amount.replace(/(\.\d\d\d*?)0+ /, "$1 ");

export function payments(page) {
  if (!page?.items.length) return h("p", { class: "empty" }, "No payment in what was looked at.");
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Payments" }, h("table", { class: "payments" },
    h("thead", {}, h("tr", {}, ["When", "Rail", "To", "For", "What", "Amount"].map((title, i) => h("th", { scope: "col", class: i === 5 ? "n" : "" }, title)))),
    h("tbody", {}, page.items.map((payment) => h("tr", { "data-key": `${payment.rail}/${payment.id}/${payment.kind}/${payment.status}` },
      h("td", {}, moment(payment.at)),
      h("td", {}, payment.rail),
      h("td", {}, payment.payee ? named(payment.payee) : "–"),
      h("td", { class: "dim" }, payment.task || payment.resource ? named(payment.task ?? payment.resource) : "–"),
      h("td", { class: "dim" }, payment.kind, payment.disposition !== "first" && ` (${payment.disposition})`),
      h("td", { class: "n" }, payment.usd === null ? "no price" : usd(payment.usd), !/ USD$/.test(payment.amount) && h("small", {}, native(payment.amount))))))));
}

const SEVERITIES = ["info", "low", "medium", "high", "critical"];

/** What happened says more than the review that follows from it; of the rest the most severe comes first. */
const mostUrgent = (a, b) => (a.trigger === "review") - (b.trigger === "review") || SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity);

const shareList = (shares, empty) => (shares.length
  ? h("ol", { class: "share-list" }, shares.map((one) => h("li", { "data-key": one.name }, named(one.name), h("strong", {}, usd(one.usd)), h("small", {}, `${count(one.payments)} payments`))))
  : h("p", { class: "empty" }, empty));

export function page(name) {
  const path = `/v1${agentPath(name)}`;
  return {
    title: name, name: "agent", every: 2500,
    async load(known) {
      const hours = new URLSearchParams(location.search).get("hours") ?? 6;
      // The hours are read from the journal: not as often as the rest.
      const isFresh = known && known.hours === hours && Date.now() - known.seriesAt < 8000;
      const [detail, series, paid] = await Promise.all([
        ask(path),
        isFresh ? known.series : ask(`${path}/series?hours=${hours}`),
        ask(`/v1/payments?agent=${encodeURIComponent(name)}&limit=20`),
      ]);
      const [worst] = [...detail.alerts].sort(mostUrgent);
      const alert = worst ? await ask(`/v1/alerts/${encodeURIComponent(worst.id)}`) : null;
      return { detail, series, paid, hours, alert, seriesAt: isFresh ? known.seriesAt : Date.now() };
    },
    view(data) {
      if (!data) return [h("header", { class: "headline" }, h("h1", {}, name)), h("p", { class: "loading" }, "Reading …")];
      const { detail, series, paid, alert } = data;
      const alerts = [...detail.alerts].sort(mostUrgent);
      const speed = detail.signals.find((signal) => signal.kind === "velocity");
      const budgets = detail.signals.filter((signal) => signal.kind === "budget");
      const totals = detail.totals;
      const perTask = totals.tasks > 0 ? Number(totals.committed) / totals.tasks : null;
      return [
        h("header", { class: "headline" }, h("p", { class: "crumb" }, h("a", { href: "/agents" }, "Agents"), detail.team && [" / ", h("a", { href: `/agents?team=${encodeURIComponent(detail.team)}` }, detail.team)]), h("h1", {}, h("bdi", {}, name), advice(detail.verdict))),
        alerts.length > 0 && incident(alerts, detail.brief, { isFirst: true, isHere: true }),
        h("dl", { class: "figures card" },
          !alerts.length && fact("Speed", speed ? rate(speed.value) : "–", speed && (speed.verdict === "learning" ? "learning what is usual" : `${times(speed.value, speed.usual) || "0×"} its usual ${rate(speed.usual)}`)),
          !alerts.length && fact("Score", score(detail.score), "of 1"),
          fact("Spent in all", usd(totals.committed), `${count(totals.purchases)} payments since ${new Date(detail.first_at).toLocaleDateString()}`),
          Number(totals.held) > 0 && fact("Held", usd(totals.held), "authorized, not captured"),
          totals.tasks > 0 && fact("Per task", usd(perTask), `${count(totals.tasks)} tasks reported, ${count(totals.tasks_failed)} failed`),
          totals.declined > 0 && fact("Declined", count(totals.declined), "attempts"),
          fact("Last payment", moment(detail.last_at))),
        h("section", { class: "card" },
          h("h2", {}, "Spend velocity", h("span", { class: "tabs" }, ["1", "6", "24", "168"].map((hours) => h("a", { href: `${location.pathname}?hours=${hours}`, "aria-current": String(data.hours) === hours ? "true" : undefined }, hours === "168" ? "7 d" : `${hours} h`)))),
          velocity(series, detail.alerts)),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "Rails"), Object.keys(series.rails).length ? shares(series.rails, { width: 560, height: 118, steps: 60 }) : h("p", { class: "empty" }, "Nothing was paid in these hours.")),
          h("section", { class: "card" }, h("h2", {}, "Budget"), budgets.length ? budgets.map((signal) => {
            const facts = Object.fromEntries(signal.facts);
            return h("div", {}, h("h3", {}, signal.about), burn({ ...facts, usual: signal.usual, value: signal.value }, { width: 560, height: 130 }),
              h("p", { class: "dim" }, `${signal.value.toFixed(1)}% a day; ${signal.usual.toFixed(1)}% would last. ${usd(facts.projected_usd)} at the end of the period at this pace.`));
          }) : h("p", { class: "empty" }, "No budget is set. Add ", h("code", {}, "budget = \"$1,000 / month\""), " to this agent."))),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "What the detectors say"), signals(detail.signals)),
          h("section", { class: "card" }, h("h2", {}, alert ? "How the score came about" : "Score"), alert ? contributions(alert) : h("p", { class: "empty" }, `Nothing adds up to anything unusual: ${score(detail.score)}.`))),
        h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "Payees in these hours"), shareList(series.payees, "Nobody was paid.")),
          h("section", { class: "card" }, h("h2", {}, "Tasks in these hours"), shareList(series.tasks, "Payments name no task."))),
        h("section", { class: "card" }, h("h2", {}, "Latest payments ", h("a", { class: "more", href: "/v1/export/payments?format=csv", download: true }, "CSV of all")), payments(paid)),
      ];
    },
  };
}

