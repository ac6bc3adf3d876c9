// The smaller panels: data quality, alerts, fairness, services. Each is a function of the picture.

import { facts, keep, make, setAttribute, setText } from "./elements.js";
import {
  clock, day, duration, isNumber, number, percent, plural, secondsOf, watts, words,
} from "./format.js";

const MOST_ALERTS = 12;
const MOST_SERVICES = 20;

export function showSources({ sources = {}, sources_left_off: leftOff, forecast = {}, leases = {},
  levers = {} }) {
  const bad = sources.bad ?? [];
  const counts = ["good", "questionable", "invalid"].map((quality) =>
    ({ quality, count: sources[quality] ?? 0 }));
  keep(document.getElementById("sources-counts"), counts, (one) => one.quality,
    () => make("span", {}, make("b"), " ", make("span")),
    (child, { quality, count }) => {
      setText(child.firstElementChild, String(count));
      setText(child.lastElementChild, quality);
      setAttribute(child, "class", count > 0 && quality !== "good"
        ? (quality === "invalid" ? "word-above" : "word-near") : "muted");
    });
  keep(document.getElementById("sources-rows"), bad, (row) => row.source,
    () => make("tr", {}, make("th", { scope: "row" }), make("td", { "data-name": "measures" }),
      make("td", { "data-name": "quality" }), make("td", { class: "number", "data-name": "last read" }),
      make("td", { class: "wide", "data-name": "why" })),
    (child, row) => {
      const cells = [row.source, words(row.measures), row.quality, isNumber(row.age_seconds)
        ? `${duration(row.age_seconds)} ago` : "never", row.reason];
      cells.forEach((text, place) => setText(child.children[place], text));
      setAttribute(child.children[2], "class", row.quality === "invalid" ? "word-above" : "word-near");
    });
  document.getElementById("sources-table").hidden = bad.length === 0;
  facts(document.getElementById("sources-facts"), [
    ["Forecast", forecastWord(forecast)],
    ["Levers", levers.exhausted ? `exhausted: ${levers.reason || "no reason given"}` : levers.reason
      || "in hand"],
    ["Leases", leasesWord(leases)],
    ["Not listed", leftOff ? `${leftOff} more` : null],
  ]);
}

function forecastWord({ worker = "unknown", beaten_by_naive: beaten, skill_ratio: skill }) {
  if (!isNumber(skill)) return `${worker}, not judged yet`;
  return `${worker}, ${percent(Math.abs(skill))} ${beaten ? "worse" : "better"} than the best naive one`;
}

function leasesWord({ count = 0, unrenewed = 0, drifting = 0 }) {
  return `${count} held, ${unrenewed} expired unrenewed, ${drifting} drifting`;
}

export function showAlerts({ alerts = [] }) {
  const rows = alerts.slice(0, MOST_ALERTS);
  document.getElementById("alerts-empty").hidden = rows.length > 0;
  keep(document.getElementById("alerts-list"), rows, (alert) => alert.alert_id ?? alert.rule + alert.cause,
    () => make("li", { class: "event" }, make("p", {}, make("span", { class: "tag" }), " ", make("strong")),
      make("p", { class: "number muted" }), make("p", { class: "note" })),
    (child, alert) => {
      const [head, since, todo] = child.children;
      const grave = alert.severity === "page" || alert.severity === "critical";
      setText(head.firstElementChild, words(alert.state === "pending" ? `${alert.severity}, pending`
        : alert.severity));
      setAttribute(head.firstElementChild, "class", grave ? "tag risk" : "tag near");
      setText(head.lastElementChild, alert.summary ?? alert.text ?? words(alert.rule));
      const at = isNumber(alert.since) ? alert.since : secondsOf(alert.since);
      setText(since, at === null ? "" : `since ${clock(at)}`);
      setText(todo, [alert.what_to_do, ...(alert.effects ?? [])].filter(Boolean).join("; "));
    });
  const more = alerts.length - rows.length;
  setText(document.getElementById("alerts-more"), more > 0 ? `${more} more are not listed.` : "");
}

export function showFairness({ fairness = {}, weights = {}, policy = {} }) {
  const lost = isNumber(fairness.worst_lost_ratio) && fairness.worst_lost_ratio > 0.0005;
  facts(document.getElementById("fairness-facts"), [
    ["Jain's index", `${number(fairness.jain_index, 3)} (1: all have lost the same share)`],
    ["Lost most", lost ? lostWord(fairness) : "nobody has lost anything"],
    ["Flex weights", flexWeights(weights)],
    ["Policy", policy.fingerprint ? policyWord(policy) : null],
  ]);
}

function lostWord({ worst_user: user, worst_lost_ratio: ratio }) {
  return `${user || "somebody"}, ${percent(ratio, 1)} of their time`;
}

function policyWord({ fingerprint, changed_at: changed, author }) {
  const at = secondsOf(changed);
  const when = at === null ? "" : `, changed ${day(at)}`;
  return `${String(fingerprint).slice(0, 12)}${when}${author ? ` by ${author}` : ""}`;
}

function flexWeights(weights) {
  const found = [0, 1, 2, 3].map((flex) => weights[`flex${flex}_weight`]);
  return found.every(isNumber) ? found.map((value, flex) =>
    `flex${flex} ${Number(value.toPrecision(3))}`).join(", ") : null;
}

export function showServices({ services = [] }) {
  document.getElementById("services").hidden = services.length === 0;
  keep(document.getElementById("services-list"), services.slice(0, MOST_SERVICES),
    (service) => `${service.user}/${service.name}`,
    () => make("li", { class: "event" }, make("p"), make("p", { class: "number muted" }),
      make("p", { class: "note" })),
    (child, service) => {
      const [head, streams, why] = child.children;
      const moves = service.switching && service.asked_tier ? `, moving to ${service.asked_tier}` : "";
      const tier = `${service.family}/${service.serving || "nothing"}`;
      setText(head, `${service.name} (${service.user}): serves ${tier}${moves}`);
      const open = (service.backends ?? []).reduce((sum, one) => sum + (one.open_streams ?? 0), 0);
      setText(streams, plural(open, "stream"));
      setText(why, service.reason || `its own tier is ${service.full_tier}`);
    });
}

/** What this month saves: every figure that is there, with its unit read from its name. */
export function showSavings(answer) {
  const rows = [];
  for (const [name, value] of Object.entries(answer)) {
    if (["ok", "at", "site", "month", "currency", "note", "notes", "computed_at",
      "reason"].includes(name)) continue;
    if (value === null || typeof value === "object") continue;
    rows.push([title(name), savingText(name, value, answer.currency)]);
  }
  facts(document.getElementById("savings-facts"), rows);
  const note = [answer.month, answer.reason, answer.note,
    ...(answer.notes ?? [])].filter((text) => typeof text === "string" && text);
  setText(document.getElementById("savings-note"), note.join(". "));
}

function title(name) {
  const plain = words(name.replace(/_(watts|kwh|ratio|seconds|joules|hours|kg|cost)$/, ""));
  return plain[0].toUpperCase() + plain.slice(1);
}

function savingText(name, value, currency) {
  if (!isNumber(value)) return String(value);
  if (name.endsWith("_watts")) return watts(value);
  if (name.endsWith("_kwh")) return `${value.toFixed(1)} kWh`;
  if (name.endsWith("_ratio")) return percent(value, 1);
  if (name.endsWith("_seconds")) return duration(value);
  if (name.endsWith("_kg")) return `${value.toFixed(1)} kg`;
  if (/(cost|saved|bill)$/.test(name)) return `${value.toFixed(2)}${currency ? ` ${currency}` : ""}`;
  return String(Number(value.toPrecision(6)));
}
