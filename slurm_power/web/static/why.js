// The explanation of a job: what the controller says of it, in whatever fields it says it.

import { get, path } from "./api.js";
import { showDialog } from "./dialog.js";
import { make } from "./elements.js";
import { clock, day, isNumber, percent, secondsOf, watts, words } from "./format.js";

const MOST_ENTRIES = 60;

export async function showWhy(jobId) {
  const place = make("div", { role: "status" }, "Asking the controller ...");
  showDialog(`Job ${jobId}`, place);
  try {
    place.replaceChildren(...content(await get(path("jobs", jobId, "why"))));
  } catch (error) {
    place.replaceChildren(make("p", { class: "wrong" }, error.message));
  }
}

function content(answer) {
  const parts = [];
  for (const sentence of [answer.text, answer.summary, answer.why].flat()) {
    if (typeof sentence === "string" && sentence) parts.push(make("p", {}, sentence));
  }
  const { ok, text, summary, why, entries, ...rest } = answer;
  for (const [name, value] of Object.entries(rest)) {
    if (value === null || value === "" || (Array.isArray(value) && !value.length)) continue;
    parts.push(make("h3", {}, words(name)), shown(name, value));
  }
  if (Array.isArray(entries)) parts.push(make("h3", {}, "Ledger"), ledger(entries));
  if (!parts.length) parts.push(make("p", {}, "Nothing has been done to it."));
  return parts;
}

function shown(name, value) {
  if (Array.isArray(value)) {
    if (value.some((item) => item?.kind && item?.at)) return ledger(value);
    return make("ul", { class: "says" }, value.slice(0, MOST_ENTRIES).map((item) => make("li", {}, plain(name, item))));
  }
  if (typeof value === "object") {
    const rows = Object.entries(value).filter((row) => row[1] !== null && row[1] !== "");
    return make("dl", {}, rows.map(([key, one]) => make("div", { class: "fact-row" }, make("dt", {}, words(key)), make("dd", {}, plain(key, one)))));
  }
  return make("p", {}, plain(name, value));
}

function plain(name, value) {
  if (isNumber(value) && name.endsWith("_watts")) return watts(value);
  if (isNumber(value) && name.endsWith("_ratio")) return percent(value, 1);
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  return String(value);
}

function ledger(entries) {
  return make("ol", { class: "timeline" }, entries.slice(-MOST_ENTRIES).reverse().map((entry) => {
    const at = secondsOf(entry.at);
    return make("li", {}, make("time", { datetime: entry.at }, `${day(at).slice(5)} ${clock(at)}`), make("span", { class: "kind" }, words(entry.kind)), make("span", { class: "what" }, entry.reason));
  }));
}
