// The smaller panels: data quality, alerts, fairness, services. Each is a function of the picture.

import { facts, keep, make, setAttribute, setText } from "./elements.js";
import {
  clock, day, duration, isNumber, number, percent, plural, secondsOf, watts, words,
} from "./format.js";
import { reasonOf } from "./notices.js";

// As slurm_power/model/money.py says it.
const UNNAMED_MONEY = "money units of the tariff";
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
    () => make("tr", {},
      make("th", { scope: "row" }, make("div"), make("div", { class: "note" })),
      make("td", { "data-name": "quality" }),
      make("td", { class: "number", "data-name": "last read" }),
      make("td", { class: "wide", "data-name": "why" })),
    (child, row) => {
      const [head, quality, age, why] = child.children;
      setText(head.firstElementChild, words(row.measures) || row.source);
      setText(head.lastElementChild, row.source);
      setText(quality, row.quality);
      setAttribute(quality, "class", row.quality === "invalid" ? "word-above" : "word-near");
      setText(age, isNumber(row.age_seconds) ? `${duration(row.age_seconds)} ago` : "never");
      setText(why, reasonOf(row));
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

export function showAlerts({ alerts }) {
  // Without a role that may see them they are not told: that is not the same as none.
  document.getElementById("alerts").hidden = alerts === undefined;
  alerts ??= [];
  const rows = alerts.slice(0, MOST_ALERTS);
  document.getElementById("alerts-empty").hidden = rows.length > 0;
  keep(document.getElementById("alerts-list"), rows, (alert) => alert.id,
    () => make("li", { class: "event" }, make("p", {}, make("span", { class: "tag" }), " ", make("strong")),
      make("p", { class: "number muted" }), make("p", { class: "note whole" })),
    (child, alert) => {
      const [head, since, todo] = child.children;
      const grave = alert.severity === "page" && alert.state === "firing";
      setText(head.firstElementChild, alert.state === "firing" ? alert.severity : words(alert.state));
      setAttribute(head.firstElementChild, "class", grave ? "tag risk" : "tag near");
      setText(head.lastElementChild, alert.summary || words(alert.rule));
      const at = secondsOf(alert.since);
      setText(since, at === null ? "" : `since ${clock(at)}`);
      const advice = String(alert.what_to_do ?? "").replace(/\.$/, "");
      setText(todo, [advice, ...(alert.effects ?? [])].filter(Boolean).join("; "));
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

/** What this month came to, against what, and how sure that is. */
export function showSavings(answer) {
  const unit = answer.currency || UNNAMED_MONEY;
  const money = (value) => (isNumber(value) ? `${value.toFixed(2)} ${unit}` : null);
  facts(document.getElementById("savings-facts"), [
    savedRow(answer, money),
    ["Bill so far", insteadOf(money(answer.bill), money(answer.bill_without))],
    ["Peak of 15 min", insteadOf(known(answer.peak_watts), known(answer.peak_without_watts))],
    ["CO2", co2Word(answer.co2_kg_saved)],
    ["Events", answer.events > 0 ? `${answer.events_delivered} of ${answer.events} delivered` : "none"],
    ["How sure", sureWord(answer)],
  ]);
  const method = answer.method ? `How it is reckoned: ${answer.method}.` : "";
  setText(document.getElementById("savings-note"), method);
  setText(document.getElementById("savings-month"),
    `${answer.month ?? ""}, against the same month without caps and batteries`);
}

function savedRow({ saved, saved_most: most, bill_without: without }, money) {
  if (!isNumber(saved)) return ["Saved", "unknown: no tariff is set"];
  const share = without > 0 ? ` (${percent(Math.abs(saved) / without, 1)})` : "";
  // The bound is of what was saved: of what it cost more, the least.
  const ends = most < 0 ? `${money(-most)} at least` : `${money(most)}${saved < 0 ? " saved" : ""} at most`;
  const bound = isNumber(most) && most - saved >= 0.01
    ? `; ${ends}, if held jobs would have drawn all the while` : "";
  return [saved < 0 ? "Cost more" : "Saved", money(Math.abs(saved)) + share + bound];
}

function co2Word(kg) {
  if (!isNumber(kg)) return null;
  return kg <= -0.05 ? `${(-kg).toFixed(1)} kg more` : `${Math.abs(kg).toFixed(1)} kg less`;
}

function sureWord({ estimate, metered_ratio: metered, unpriced_hours: unpriced, unknown_months: unknown }) {
  const why = [
    isNumber(metered) ? `${percent(metered, 1)} of the month so far was metered` : "",
    unpriced > 0 ? `${duration(unpriced * 3600)} have no price` : "",
    unknown?.length ? `peaks of ${unknown.join(", ")} are unknown` : "",
  ].filter(Boolean).join(", ");
  return `${estimate ? "an estimate" : "measured"}${why ? `: ${why}` : ""}`;
}

function known(value) {
  return isNumber(value) ? watts(value) : null;
}

function insteadOf(is, without) {
  if (is === null) return null;
  return without === null || without === is ? is : `${is} instead of ${without}`;
}
