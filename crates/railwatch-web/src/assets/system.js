// Rails and sources, rules and scripts, and what was loaded when.

import { h } from "./dom.js";
import { band } from "./charts.js";
import { ago, count, percent, rate, usd, when } from "./format.js";
import { ask, may, state } from "./store.js";
import { moment } from "./fleet.js";

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
            h("div", { class: "name" }, h("strong", {}, one.rail), h("small", {}, `${count(one.payments_day)} payments, ${usd(one.usd_day)} in 24 h`)),
            band(one.quarters, one.usual, { height: 90, label: `${one.rail}, last six hours` }),
            h("div", { class: "now" }, h("strong", {}, rate(one.usd_per_hour)), h("small", {}, one.usual ? `usually ${usd(one.usual[0])} – ${usd(one.usual[1])}` : "learning", ` · ${percent(whole > 0 ? one.usd_per_hour / whole : 0)} of all`)))))
          : h("p", { class: "empty" }, "No payment in the last day.")),
        data && h("section", { class: "card" }, h("h2", {}, "Sources"), sources.length
          ? h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Sources" }, h("table", {}, h("thead", {}, h("tr", {}, ["Source", "State", "Last message", "Behind", "Failures", "Detail"].map((name, i) => h("th", { scope: "col", class: i === 4 ? "n" : "" }, name)))),
            h("tbody", {}, sources.map(([name, source]) => h("tr", { "data-key": name },
              h("th", { scope: "row" }, name), h("td", {}, h("span", { class: `phase ${source.phase}` }, PHASES[source.phase] ?? source.phase)),
              h("td", {}, source.last_message_at ? moment(source.last_message_at, ago(source.last_message_at)) : "never"),
              h("td", { class: "dim" }, source.last_event_at ? ago(source.last_event_at).replace(" ago", "") : "–"),
              h("td", { class: "n" }, count(source.failures)), h("td", { class: "dim" }, source.detail))))))
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

export function rules() {
  return {
    title: "Rules", name: "rules", every: 3000,
    async load() {
      const [status, generations] = await Promise.all([ask("/v1/status"), ask("/v1/generations?limit=1")]);
      const newest = generations.items[0];
      return { status, files: newest ? (await ask(`/v1/generations/${newest.number}`)).files : [] };
    },
    view(data) {
      const scripts = data?.status.scripts ?? [];
      return [
        h("header", { class: "headline" }, h("h1", {}, "Rules"), h("p", {}, "Lua files beside the configuration; saving one puts it in force if its own tests pass.")),
        data && (scripts.length ? scripts.map((script) => h("section", { class: "card script", "data-key": script.file + script.name },
          h("h2", {}, script.name, h("span", { class: `phase ${script.health}` }, script.health), script.shadow && h("span", { class: "phase shadow" }, "shadow"), h("small", {}, script.kind)),
          script.about && h("p", {}, script.about),
          h("p", { class: "dim" }, `${count(script.calls)} calls, ${count(script.errors)} errors · ${script.file}`),
          script.last_errors.length > 0 && h("ul", { class: "plain errors" }, script.last_errors.slice(0, 3).map((error) => h("li", {}, moment(error.at), ` line ${error.line ?? "?"}: `, h("code", {}, error.message)))),
          source(data.files, script.file)))
          : h("div", { class: "card empty" }, h("h2", {}, "No rule of yours is in force"), h("p", {}, "A rule is a Lua file with its tests in it. Name it in the configuration:"), h("pre", {}, "[rules]\npaths = [\"rules/\"]"), h("p", {}, "The detectors and the built-in score work without any."))),
      ];
    },
  };
}

function source(files, path) {
  const file = files.find((one) => one.path === path || one.path.endsWith(`/${path}`) || path.endsWith(`/${one.path}`));
  return file && h("details", {}, h("summary", {}, "Source"), h("pre", { class: "code", tabindex: 0 }, file.text));
}

export function reloads() {
  return {
    title: "Reloads", name: "reloads", every: 3000,
    async load() { return { generations: await ask("/v1/generations?limit=50"), status: await ask("/v1/status") }; },
    view(data) {
      return [
        h("header", { class: "headline" }, h("h1", {}, "Reloads"), h("p", {}, data ? `generation ${data.status.generation} is in force` : "…"),
          may("author") && h("div", { class: "actions" }, h("button", { type: "button", "data-act": "reload" }, "Read the configuration again"))),
        data && h("ol", { class: "timeline card" }, data.generations.items.map((generation) => {
          const { by, edges } = generation.outcome ?? {};
          const parts = Object.entries(edges ?? {}).filter(([, names]) => names.length).map(([what, names]) => `${what.replace("_", " ")}: ${names.join(", ")}`);
          return h("li", { "data-key": String(generation.number), class: generation.number === data.status.generation ? "firing-now" : "" },
            moment(generation.at), h("strong", {}, `Generation ${generation.number}`), h("span", {}, by === "start" ? "railwatch was started" : `by ${by}`),
            h("p", {}, parts.join(" · ") || "no source or sink changed", h("small", {}, ` ${String(generation.digest).slice(0, 12)}`)));
        })),
      ];
    },
  };
}
