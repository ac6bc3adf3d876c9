// The explanation of a job: what it is, and what was done to it, newest first.

import { get, path } from "./api.js";
import { showDialog } from "./dialog.js";
import { make } from "./elements.js";
import { clock, day, isNumber, kwh, percent, plural, secondsOf, signedWatts, watts,
  words } from "./format.js";

const MOST_ENTRIES = 60;
const JOULES_PER_KWH = 3.6e6;

export async function showWhy(jobId) {
  const place = make("div", { role: "status" }, "Asking the controller ...");
  showDialog(`Job ${jobId}`, place);
  try {
    place.replaceChildren(...content(await get(path("jobs", jobId, "why"))));
  } catch (error) {
    place.replaceChildren(make("p", { class: "wrong" }, error.message));
  }
}

function content({ job = {}, entries = [], more = false }) {
  const newest = entries.slice(-MOST_ENTRIES).reverse();
  const rows = about(job).filter((row) => row[1]);
  return [
    make("p", {}, newest.length ? newest[0].reason : "Nothing was done to it."),
    make("dl", {}, rows.map(([name, value]) =>
      make("div", { class: "fact-row" }, make("dt", {}, name), make("dd", {}, value)))),
    ...(newest.length ? [make("h3", {}, "What was done"), timeline(newest)] : []),
    ...(more || entries.length > MOST_ENTRIES
      ? [make("p", { class: "note" }, "Older entries are in the ledger.")] : []),
  ];
}

/** The job in the words of the store; each only where it is known. */
function about(job) {
  const expected = isNumber(job.expected_mean_watts) ? `${watts(job.expected_mean_watts)} a GPU` : null;
  const energy = isNumber(job.energy_joules) ? kwh(job.energy_joules / JOULES_PER_KWH) : null;
  const coverage = isNumber(job.coverage_ratio) && job.coverage_ratio < 0.95 ? ", an estimate" : "";
  return [
    ["Name", job.name],
    ["Whose", [job.user, job.account].filter(Boolean).join(" / ")],
    ["Is", [job.state, job.workload, job.flex, job.tier].filter(Boolean).join(", ")],
    ["Runs on", job.nodes?.length ? `${job.nodes.join(", ")} with ${plural(job.gpu_count, "GPU")}` : null],
    ["Started", moment(job.started)],
    ["Ended", moment(job.ended)],
    ["Expected", expected && `${expected}, known from ${job.expected_known_from}`],
    ["Energy", energy && energy + coverage],
    ["Slowed by", isNumber(job.slowdown_ratio) && job.slowdown_ratio > 0 ? percent(job.slowdown_ratio, 1)
      : null],
  ];
}

function moment(text) {
  const at = secondsOf(text);
  return at === null ? null : `${day(at)} ${clock(at)}`;
}

function timeline(entries) {
  return make("ol", { class: "timeline" }, entries.map((entry) => {
    const at = secondsOf(entry.at);
    const saved = isNumber(entry.saved_watts) && entry.saved_watts
      ? ` (${signedWatts(entry.saved_watts)} saved)` : "";
    return make("li", {},
      make("time", { datetime: entry.at }, `${day(at).slice(5)} ${clock(at)}`),
      make("span", { class: "kind" }, words(entry.kind)),
      make("span", { class: "what" }, entry.reason + saved));
  }));
}
