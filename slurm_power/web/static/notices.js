// The line below the heading: what is wrong or due, each with a link to the panel that says more.

import { setAttribute, setText } from "./elements.js";
import { duration, isNumber, plural, signedWatts, watts, words } from "./format.js";

const GRAVEST_FIRST = ["page", "warn", "info"];

export class Notices {
  constructor() {
    this.list = document.getElementById("notices");
    this.speaker = document.getElementById("notices-speaker");
    this.said = new Set();
  }

  update(picture) {
    const found = notices(picture);
    for (const row of this.list.children) {
      const notice = found.find((one) => one.kind === row.dataset.kind);
      row.hidden = !notice;
      if (!notice) continue;
      setAttribute(row, "class", `notice ${notice.level}`);
      setText(row.querySelector("a"), notice.title);
      setText(row.querySelector("span"), notice.text);
    }
    this.list.hidden = found.length === 0;
    this.speak(found);
  }

  /** Screen readers are told what is new; the minutes in it pass unsaid. */
  speak(found) {
    const fresh = found.filter((notice) => !this.said.has(notice.key));
    this.said = new Set(found.map((notice) => notice.key));
    if (fresh.length) setText(this.speaker, fresh.map((one) => `${one.title}: ${one.text}.`).join(" "));
  }
}

/** Rows {kind, level, title, text, key}, one of a kind at most; `key` stays while it is the same matter. */
export function notices(picture) {
  return [alertNotice, leverNotice, sourceNotice, eventNotice, startNotice]
    .map((notice) => notice(picture)).filter(Boolean);
}

function alertNotice({ alerts, sources, standing }) {
  const firing = (alerts ?? []).filter((alert) => alert.state === "firing");
  if (firing.length === 0) return null;
  const rank = (alert) => GRAVEST_FIRST.indexOf(alert.severity);
  // What heading and other notices say already is not the one to name, however grave.
  const elsewhere = (alert) => (alert.rule === "limit_at_risk" && !standing.safe)
    || (alert.rule === "dead_source" && sources?.bad?.length > 0);
  const [worst] = firing.toSorted((one, other) =>
    elsewhere(one) - elsewhere(other) || rank(one) - rank(other));
  return {
    kind: "alerts",
    level: firing.some((alert) => alert.severity === "page") ? "risk" : "near",
    title: plural(firing.length, "alert"),
    text: (worst.summary || words(worst.rule)) + more(firing.length - 1),
    key: `alerts ${firing.map((alert) => alert.id).toSorted()}`,
  };
}

function leverNotice({ levers }) {
  if (!levers?.exhausted) return null;
  const text = levers.reason || "nothing is left to lower the draw with";
  return { kind: "levers", level: "risk", title: "Levers exhausted", text, key: "levers" };
}

function sourceNotice({ sources }) {
  const [dead, doubtful] = [sources?.invalid ?? 0, sources?.questionable ?? 0];
  if (dead + doubtful === 0) return null;
  const rows = sources.bad ?? [];
  const worst = rows.find((row) => row.quality === "invalid") ?? rows[0];
  const rest = dead > 0 ? [dead > 1 ? `${dead - 1} more` : "", doubtful ? `${doubtful} doubtful` : ""]
    : [doubtful > 1 ? `${doubtful - 1} more` : ""];
  return {
    kind: "sources",
    level: "near",
    title: dead > 0 ? plural(dead, "dead source") : plural(doubtful, "doubtful source"),
    text: [worst ? sourceText(worst) : "", ...rest].filter(Boolean).join("; "),
    key: `sources ${dead} ${doubtful} ${worst?.source}`,
  };
}

function sourceText(row) {
  const why = reasonOf(row);
  return (words(row.measures) || row.source) + (why ? `: ${why}` : "");
}

/** Why a source is not good, without its long name a second time. */
export function reasonOf({ source, reason }) {
  return String(reason ?? "").replace(`${source}: `, "");
}

function eventNotice({ events, shortfalls }) {
  const open = (events ?? []).filter((event) => event.ends_in_seconds > 0)
    .toSorted((one, other) => one.starts_in_seconds - other.starts_in_seconds);
  if (open.length === 0) return null;
  const [event] = open;
  const runs = event.starts_in_seconds <= 0;
  const short = (shortfalls ?? []).find((one) => one.event_id === event.event_id && one.watts > 0);
  const left = runs ? `, ${duration(event.ends_in_seconds)} left`
    : ` for ${duration(event.ends_in_seconds - event.starts_in_seconds)}`;
  const lack = short ? `; ${watts(short.watts)} too much, as things stand` : "";
  return {
    kind: "events",
    level: short ? "risk" : "calm",
    title: runs ? "Grid event running" : `Grid event in ${duration(event.starts_in_seconds)}`,
    text: `${event.circuit} at most ${watts(event.limit_watts)}${left}${lack}${more(open.length - 1)}`,
    key: `events ${event.event_id} ${runs} ${Boolean(short)}`,
  };
}

function startNotice({ starts, standing }) {
  const massive = (starts ?? []).filter((start) => start.massive)
    .toSorted((one, other) => (one.lead_seconds ?? Infinity) - (other.lead_seconds ?? Infinity));
  if (massive.length === 0) return null;
  const [start] = massive;
  const step = start.step_watts?.[standing.circuit];
  const beyond = isNumber(step) && isNumber(standing.margin_watts) && step > standing.margin_watts;
  const parts = [
    start.name ? `${start.name} (job ${start.job_id})` : "a job",
    isNumber(step) ? `${signedWatts(step)} on ${standing.circuit}` : plural(start.gpu_count, "GPU"),
    beyond ? `${watts(Math.max(0, standing.margin_watts))} left now` : "",
  ];
  return {
    kind: "starts",
    level: beyond ? "near" : "calm",
    title: isNumber(start.lead_seconds) ? `Massive start in ${duration(start.lead_seconds)}`
      : "Massive start ahead",
    text: parts.filter(Boolean).join(", ") + more(massive.length - 1),
    key: `starts ${start.job_id}`,
  };
}

function more(count) {
  return count > 0 ? `; ${count} more` : "";
}
