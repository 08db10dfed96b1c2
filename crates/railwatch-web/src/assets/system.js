// Rails and sources, rules and scripts, and what was loaded when.

import { h } from "./dom.js";
import { band } from "./charts.js";
import { ago, count, percent, rate, span, usd, when } from "./format.js";
import { ask, may, state } from "./store.js";
import { moment, name } from "./fleet.js";

const PHASES = { live: "live", starting: "starting", backfilling: "reading what it missed", retrying: "trying again", done: "read to its end", failed: "stopped: needs you" };

export function rails() {
  return {
    title: "Rails", name: "rails-page", every: 2000,
    async load() {
      const [status, outbox, rejects] = await Promise.all([ask("/v1/status"), ask("/v1/outbox?limit=20"), ask("/v1/rejects?limit=10")]);
      return { status, outbox, rejects };
    },
    view(data) {
      const fleet = state.fleet;
      const whole = fleet?.usd_per_hour ?? 0;
      const sources = Object.entries(data?.status.sources ?? {});
      return [
        h("header", { class: "headline" }, h("h1", {}, "Rails"), h("p", {}, fleet ? `${rate(whole)} over ${count(fleet.rails.length)} rails` : "")),
        h("section", { class: "card" }, h("h2", {}, "Spend"), fleet?.rails.length
          ? h("ul", { class: "rails tall" }, fleet.rails.map((one) => h("li", { "data-key": one.rail },
            h("div", { class: "which" }, h("strong", {}, one.rail), h("small", {}, `${count(one.payments_day)} payments, ${usd(one.usd_day)} in 24 h`)),
            band(one.quarters, one.usual, { height: 90, label: `${one.rail}, last six hours` }),
            h("div", { class: "now" }, h("strong", {}, rate(one.usd_per_hour)), h("small", {}, one.usual ? `usually ${usd(one.usual[0])} – ${usd(one.usual[1])}` : "learning", ` · ${percent(whole > 0 ? one.usd_per_hour / whole : 0)} of all`)))))
          : h("p", { class: "empty" }, "No payment in the last day.")),
        data && h("section", { class: "card" }, h("h2", {}, "Sources"), sources.length
          ? table("Sources", ["Source", "State", "Last message", "Last payment", "Heard after", "Failures", "Detail"], sources.map(([title, source]) => h("tr", { "data-key": title },
            h("th", { scope: "row" }, name(title)), h("td", {}, h("span", { class: `phase ${source.phase}` }, PHASES[source.phase] ?? source.phase)),
            h("td", {}, source.last_message_at ? moment(source.last_message_at, ago(source.last_message_at)) : "never"),
            h("td", {}, source.last_event_at ? moment(source.last_event_at, ago(source.last_event_at)) : "never"),
            h("td", { class: "n dim" }, source.lag_secs === null ? "–" : span(source.lag_secs)),
            h("td", { class: "n" }, count(source.failures)), h("td", { class: "dim detail" }, source.detail))), [4, 5])
          : h("p", { class: "empty" }, "No source is configured.")),
        data && h("div", { class: "two" },
          h("section", { class: "card" }, h("h2", {}, "Notices ", h("small", {}, data.status.sinks.length ? `to ${data.status.sinks.join(", ")}` : "no sink is configured")), data.outbox.length
            ? h("ul", { class: "plain" }, data.outbox.map((entry) => h("li", { "data-key": String(entry.id) }, h("span", { class: `phase ${entry.state}` }, entry.state === "unknown" ? "sent?" : entry.state), ` ${entry.sink} · ${entry.occasion} `, h("small", {}, when(entry.queued_at), entry.last_error && ` · ${entry.last_error}`))))
            : h("p", { class: "empty" }, "Nobody had to be told anything.")),
          h("section", { class: "card" }, h("h2", {}, "Not understood"), data.rejects.length
            ? h("ul", { class: "plain" }, data.rejects.map((reject, i) => h("li", { "data-key": `${reject.at}${i}` }, h("strong", {}, reject.source), ` ${reject.code} `, h("small", {}, reject.detail))))
            : h("p", { class: "empty" }, "Every message was understood."))),
      ];
    },
  };
}

const table = (label, titles, rows, numbers = []) => h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, h("table", {},
  h("thead", {}, h("tr", {}, titles.map((title, i) => h("th", { scope: "col", class: numbers.includes(i) ? "n" : "" }, title)))), h("tbody", {}, rows)));

/** Rules of the user: what each is for, whether its tests pass, how often it was right, what it would have told. */
export function rules() {
  return {
    title: "Rules", name: "rules", every: 4000,
    async load(known) {
      const [status, precision, shadow] = await Promise.all([ask("/v1/status"), ask("/v1/reviews/precision"), ask("/v1/shadow")]);
      // The texts are those of the generation in force.
      const isSame = known?.status.generation === status.generation;
      const files = isSame ? known.files : (await ask(`/v1/generations/${status.generation}`)).files;
      return { status, precision, shadow, files };
    },
    view(data) {
      const scripts = data?.status.scripts ?? [];
      const ill = scripts.filter((script) => script.health !== "ok").length;
      return [
        h("header", { class: "headline" }, h("h1", {}, "Rules"), h("p", {}, data ? `${count(scripts.length)} in force${ill ? `, ${ill} with errors` : ""}` : "…"),
          h("p", { class: "lead dim" }, "Lua files beside the configuration. Saving one puts it in force if its own tests pass.")),
        data && (scripts.length ? scripts.map((one) => script(one, data))
          : h("div", { class: "card empty" }, h("h2", {}, "No rule of yours is in force"), h("p", {}, "The detectors and the built-in score work without any. A rule is a Lua file with its tests in it; name its folder in the configuration:"), h("pre", {}, "[rules]\npaths = [\"rules/\"]"))),
      ];
    },
  };
}

function script(one, { precision, shadow, files }) {
  const right = precision.find((row) => row.trigger === one.name || row.trigger === `rule:${one.name}`);
  const told = shadow.find((row) => row.rule === one.name);
  const labelled = right ? right.true_positives + right.false_positives + right.expected : 0;
  const figure = (label, value, note) => h("div", { class: "figure small" }, h("dt", {}, label), h("dd", {}, value, note && h("small", {}, note)));
  return h("section", { class: "card script", "data-key": one.file + one.name },
    h("h2", {}, name(one.name), h("span", { class: `phase ${one.health}` }, one.health), one.shadow && h("span", { class: "phase shadow" }, "shadow"), h("small", {}, one.kind), h("small", { class: "more" }, one.file)),
    one.about && h("p", {}, one.about),
    h("dl", { class: "figures" },
      figure("Tests", one.tests.length ? `${one.tests.length} passed` : "none", one.tests.length ? "when it was loaded" : "it would be safer with some"),
      figure("Calls", count(one.calls), "since it was loaded"),
      figure("Errors", count(one.errors), one.errors ? `${((100 * one.errors) / Math.max(one.calls, 1)).toFixed(1)}% of the calls` : "none"),
      one.kind === "rule" && !one.shadow && figure("Right", right ? percent(right.precision) : "–", right ? `of ${count(labelled)} labelled alerts` : "no alert of it is labelled"),
      one.shadow && figure("Would have fired", told ? count(told.firings) : "never", told ? `about ${count(told.subjects.length)} ${told.subjects.length === 1 ? "agent" : "agents"}, last ${when(told.last_at)}` : "nothing so far")),
    told && h("p", { class: "dim" }, "Last: ", h("bdi", {}, told.last_subject.replace(/^agent:/, "")), told.last_why && ` · ${told.last_why}`),
    one.last_errors.length > 0 && h("ul", { class: "plain errors" }, one.last_errors.slice(0, 3).map((error) => h("li", {}, moment(error.at), ` line ${error.line ?? "?"}: `, h("code", {}, error.message)))),
    one.tests.length > 0 && h("details", {}, h("summary", {}, "Tests"), h("ul", { class: "plain passed" }, one.tests.map((test) => h("li", {}, test)))),
    source(files, one.file));
}

function source(files, path) {
  const file = files.find((one) => one.path === path || one.path.endsWith(`/${path}`));
  return file && h("details", {}, h("summary", {}, "Source"), h("pre", { class: "code numbered", tabindex: 0 }, file.text.trimEnd().split("\n").map((line) => h("span", {}, `${line}\n`))));
}

/** A unified diff, colored by its first signs. */
const TONES = { "+": "plus", "-": "minus", "@": "place" };
export const patch = (diffs) => (diffs.length
  ? diffs.map((one) => h("pre", { class: "code diff", tabindex: 0, "data-key": one.file }, one.diff.trimEnd().split("\n").map((line) => h("span", { class: /^(---|\+\+\+)/.test(line) ? "place" : TONES[line[0]] }, `${line}\n`))))
  : h("p", { class: "dim" }, "The texts are the same."));

const changed = (edges) => Object.entries(edges ?? {}).filter(([, names]) => names.length).map(([what, names]) => `${what.replace("_", " ")}: ${names.join(", ")}`).join(" · ");
const BY = { start: "railwatch was started", watcher: "a file was saved" };

function attempt(one, data) {
  const number = one.generation;
  if (number === null) {
    const [first] = one.error.split("\n").filter((line) => line.trim());
    return h("li", { "data-key": `failed-${one.at}`, class: "failed" }, moment(one.at), h("strong", {}, "Refused"), h("span", {}, BY[one.by] ?? `by ${one.by}`),
      h("p", {}, "Nothing changed: ", h("code", {}, first)), h("details", {}, h("summary", {}, "What is wrong"), h("pre", { class: "code", tabindex: 0 }, one.error.trimEnd())));
  }
  const isNow = number === data.status.generation;
  const diffs = data.diffs[number];
  return h("li", { "data-key": String(number), class: isNow ? "firing-now" : "" }, moment(one.at), h("strong", {}, `Generation ${number}`), h("span", {}, BY[one.by] ?? `by ${one.by}`), isNow && h("span", { class: "phase ok" }, "in force"),
    h("p", {}, changed(one.edges) || "no source or sink changed", h("small", {}, ` ${one.digest.slice(0, 12)}`)),
    h("div", { class: "line" },
      number > 1 && h("details", { "data-diff": number }, h("summary", {}, `What changed since generation ${number - 1}`), diffs && (diffs instanceof Error ? h("p", { class: "dim" }, diffs.message) : patch(diffs))),
      !isNow && may("author") && h("button", { type: "button", "data-act": "rollback", "data-id": number }, "Go back to this one")));
}

export function reloads() {
  const page = {
    title: "Reloads", name: "reloads", every: 3000,
    async load(known) {
      const [attempts, status] = await Promise.all([ask("/v1/reloads?limit=50"), ask("/v1/status")]);
      return { attempts, status, diffs: known?.diffs ?? {} };
    },
    /** Reads how a generation differs when somebody wants to see it. */
    async opened(details) {
      const number = details.dataset.diff;
      if (!number || page.data.diffs[number]) return;
      const diffs = page.data.diffs;
      diffs[number] = await ask(`/v1/generations/${number}/diff`).catch((problem) => problem);
    },
    view(data) {
      return [
        h("header", { class: "headline" }, h("h1", {}, "Reloads"), h("p", {}, data ? `generation ${data.status.generation} is in force` : "…"),
          may("author") && h("div", { class: "actions" }, h("button", { type: "button", "data-act": "reload" }, "Read the files again"))),
        data && h("ol", { class: "timeline card" }, data.attempts.map((one) => attempt(one, data))),
      ];
    },
  };
  return page;
}
