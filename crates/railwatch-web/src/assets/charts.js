// Charts as SVG. Colors come from classes, so that light and dark need no second drawing.

import { h, s } from "./dom.js";
import { dateOf, hourOf, percent, rate, usd } from "./format.js";

/** Text in a chart keeps its size: narrow screens get a narrower drawing. */
const isNarrow = () => innerWidth < 720;

const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** A bare line for tables. */
export function spark(values, { width = 120, height = 28, tone = "", label = "" } = {}) {
  const top = Math.max(...values, 1e-9);
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, i) => [i * step, height - 3 - (value / top) * (height - 6)]);
  return s("svg", { class: `spark ${tone}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    s("path", { class: "area", d: `${line(points)}L${width} ${height}L0 ${height}Z` }),
    s("path", { class: "line", d: line(points), "vector-effect": "non-scaling-stroke" }));
}

/** A rail's last hours in its usual band. */
export function band(values, usual, { width = 300, height = 54, label = "" } = {}) {
  const top = Math.max(...values, (usual?.[1] ?? 0) * 1.25, 1e-9) * 1.08;
  const y = (value) => height - 2 - (value / top) * (height - 4);
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, i) => [i * step, y(value)]);
  const last = values.at(-1) ?? 0;
  const tone = usual && last > usual[1] * 1.5 && last > 0.01 ? "hot" : "";
  return s("svg", { class: `band ${tone}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    usual && s("rect", { class: "usual", x: 0, width, y: y(usual[1]), height: Math.max(y(usual[0]) - y(usual[1]), 1.5) }),
    s("path", { class: "area", d: `${line(points)}L${width} ${height}L0 ${height}Z` }),
    s("path", { class: "line", d: line(points), "vector-effect": "non-scaling-stroke" }));
}

function ticks(top, n) {
  const raw = top / n;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= raw);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
}

/** A step line through one value per point, in runs without gaps. */
function steps(values, x, y) {
  const runs = [];
  for (const [i, value] of values.entries()) {
    if (value === null) { runs.push([]); continue; }
    if (!runs.length) runs.push([]);
    runs.at(-1).push([x(i), y(value)], [x(i + 1), y(value)]);
  }
  return runs.filter((run) => run.length);
}

/** Values on a scale: even, or compressed above the usual if the top is far away from it, so that both can be seen. */
function scale(top, usual) {
  const isFar = usual > 0 && top > 12 * usual;
  const squeeze = (value) => (isFar ? Math.log1p(Math.max(value, 0) / usual) : value);
  const decades = [0, ...Array.from({ length: 14 }, (_, i) => 10 ** (i - 3))];
  const marks = isFar ? decades.filter((value) => value === 0 || (value >= usual / 3 && value <= top)) : ticks(top, 4);
  return { isFar, marks, share: (value) => squeeze(value) / squeeze(top) };
}

/**
 * Velocity against the usual of each hour: a line, the band up to three times the usual, and what happened when.
 * `series` is what /v1/agents/{agent}/series answers.
 */
export function velocity(series, alerts, { width = isNarrow() ? 420 : 1080, height = isNarrow() ? 240 : 280 } = {}) {
  const [left, right, head, foot] = [isNarrow() ? 50 : 64, 12, 18, 26];
  const from = Date.parse(series.from), until = Date.parse(series.until), step = series.step_secs * 1000;
  const values = series.usd_per_hour;
  const usuals = series.usual_per_hour ?? [];
  const most = Math.max(0, ...usuals);
  const top = Math.max(...values, most * 3.4, 0.01) * 1.06;
  const { isFar, marks: lines, share } = scale(top, most);
  const x = (at) => left + ((at - from) / (until - from)) * (width - left - right);
  const y = (value) => height - foot - share(value) * (height - foot - head);
  const now = Date.now();
  const points = values
    .map((value, i) => [from + (i + 1) * step, value])
    .filter(([at]) => at <= now + step)
    .map(([at, value]) => [x(at), y(value)]);
  const known = Date.parse(series.known_from);
  const every = [0.25, 0.5, 1, 2, 4, 6, 12, 24, 48].find((hours) => (until - from) / 3600e3 / hours <= (isNarrow() ? 4 : 8)) * 3600e3;
  const hours = [];
  for (let at = Math.ceil(from / every) * every; at < until; at += every) hours.push(at);
  const isDaily = every >= 24 * 3600e3;
  const onsets = alerts.filter((alert) => Date.parse(alert.onset_at) > from);
  const at = values.findLastIndex((_, i) => from + i * step <= now);
  const [last, usual] = [values[at] ?? 0, usuals[at] ?? 0];
  const place = (i) => x(from + i * step);
  const band = steps(usuals, place, (value) => y(3 * value));
  const label = `Dollars per hour: now ${rate(last)}, ${usual > 0 ? `usually ${rate(usual)}` : "still learning what is usual"}`;
  return h("figure", { class: `chart ${usual > 0 && last > 3 * usual ? "hot" : ""}` },
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      lines.map((value) => [
        s("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        s("text", { class: "tick end", x: left - 10, y: y(value) + 4 }, usd(value).replace(/\.00$/, "")),
      ]),
      hours.map((hour) => s("text", { class: "tick mid", x: Math.max(x(hour), left + 8), y: height - 8 }, isDaily ? dateOf(hour) : hourOf(hour))),
      band.map((run) => s("path", { class: "usual", d: `${line(run)}L${run.at(-1)[0].toFixed(1)} ${y(0)}L${run[0][0].toFixed(1)} ${y(0)}Z` })),
      steps(usuals, place, y).map((run) => s("path", { class: "median", d: line(run) })),
      known > from && s("rect", { class: "unknown", x: left, width: Math.max(x(known) - left, 0), y: head, height: height - foot - head }),
      points.length && s("path", { class: "area", d: `${line(points)}L${points.at(-1)[0].toFixed(1)} ${y(0)}L${points[0][0].toFixed(1)} ${y(0)}Z` }),
      s("path", { class: "line", d: line(points) }),
      points.length && s("circle", { class: "dot", cx: points.at(-1)[0], cy: points.at(-1)[1], r: 4 }),
      onsets.map((alert) => {
        const onset = x(Date.parse(alert.onset_at));
        return s("g", { class: `mark ${alert.severity}` },
          s("line", { x1: onset, x2: onset, y1: head, y2: height - foot }),
          s("circle", { cx: onset, cy: head - 4, r: 5 }),
          s("title", {}, alert.summary));
      })),
    h("figcaption", {},
      h("span", { class: "key line" }, "spend over 15 minutes, as $ per hour"),
      most > 0 && h("span", { class: "key usual" }, `up to 3× the usual of each hour${usual > 0 ? `, now ${rate(usual)}` : ""}`),
      onsets.length > 0 && h("span", { class: "key mark" }, "an alert's onset"),
      isFar && h("span", {}, "scale compressed above the usual"),
      most === 0 && h("span", {}, "still learning what is usual"),
      known > from && h("span", { class: "key unknown" }, "not looked at: too much to read")));
}

/** Each rail's share of the spend, step by step. */
export function shares(rails, { width = 860, height = 120, steps = 60 } = {}) {
  const names = Object.keys(rails).sort((a, b) => sum(rails[b]) - sum(rails[a]));
  const length = names.length ? rails[names[0]].length : 0;
  const per = Math.ceil(length / steps);
  const bars = [];
  for (let at = 0; at * per < length; at += 1) {
    const parts = names.map((name) => sum(rails[name].slice(at * per, (at + 1) * per)));
    const whole = parts.reduce((a, b) => a + b, 0);
    let below = 0;
    for (const [i, part] of parts.entries()) {
      if (whole <= 0 || part <= 0) continue;
      const share = part / whole;
      const bar = s("rect", { class: `rail-${Math.min(i, 5)}`, x: (at * width) / steps + 0.5, width: width / steps - 1, y: height * (1 - below - share), height: height * share },
        s("title", {}, `${names[i]}: ${percent(share)}, ${usd(part)}`));
      bars.push(bar);
      below += share;
    }
  }
  const whole = sum(names.map((name) => sum(rails[name])));
  return h("figure", { class: "chart" },
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Spend by rail: ${names.map((name) => `${name} ${percent(sum(rails[name]) / (whole || 1))}`).join(", ")}` }, bars),
    h("figcaption", {}, names.map((name, i) => h("span", { class: `key rail-${Math.min(i, 5)}` }, `${name} ${percent(sum(rails[name]) / (whole || 1))}`))));
}

const sum = (values) => values.reduce((a, b) => a + b, 0);

/** A budget: what is used, and where the money ends if nothing changes. */
export function burn(budget, { width = 860, height = 120 } = {}) {
  const { percent_used: used, days_until_empty: empty, days_left: left, usual } = budget;
  const length = usual > 0 ? 100 / usual : left;
  const passed = Math.max(length - left, 0);
  const [foot, head] = [22, 8];
  const x = (day) => (day / length) * width;
  const y = (value) => height - foot - (Math.min(value, 110) / 110) * (height - foot - head);
  const runsOut = empty < left;
  const end = Math.min(passed + empty, length);
  const reach = runsOut ? 100 : used + (left / Math.max(empty, 1e-6)) * (100 - used);
  const label = used >= 100 ? "The budget is used up" : `${used.toFixed(0)}% used, ${runsOut ? `empty in ${empty.toFixed(1)} days` : "it will last"}`;
  return h("figure", { class: `chart ${runsOut ? "hot" : ""}` },
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      s("line", { class: "limit", x1: 0, x2: width, y1: y(100), y2: y(100) }),
      s("text", { class: "tick", x: 2, y: y(100) + 13 }, "budget"),
      s("line", { class: "even", x1: 0, y1: y(0), x2: width, y2: y(100) }),
      s("line", { class: "line", x1: 0, y1: y(0), x2: x(passed), y2: y(used) }),
      s("line", { class: "project", x1: x(passed), y1: y(used), x2: x(end), y2: y(reach) }),
      s("circle", { class: "dot", cx: x(passed), cy: y(used), r: 4 }),
      runsOut && s("circle", { class: "dot out", cx: x(end), cy: y(100), r: 5 }),
      s("text", { class: "tick", x: 2, y: height - 6 }, "period begins"),
      s("text", { class: "tick end", x: width - 2, y: height - 6 }, "ends")),
    h("figcaption", {},
      h("span", { class: "key line" }, `${used.toFixed(1)}% used`),
      h("span", { class: "key even" }, "an even pace"),
      h("span", { class: runsOut ? "key out" : "key project" }, label)));
}
