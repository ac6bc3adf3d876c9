// Jobs as the table shows them: which, in which order, and each cell's words. No document in here.

import { duration, isNumber, percent, UNKNOWN, watts } from "./format.js";

/** Columns: key, heading, text of a job, and what it is sorted by. */
export const COLUMNS = [
  { key: "job", heading: "Job", text: (job) => job.name || "(no name)",
    sort: (job) => Number.parseInt(job.job_id, 10) },
  { key: "user", heading: "User", text: (job) => [job.user, job.account].filter(Boolean).join(" / "),
    sort: (job) => job.user },
  { key: "state", heading: "State", text: stateWord, sort: (job) => job.state },
  { key: "gpus", heading: "GPUs", number: true, text: (job) => String(job.gpu_count ?? UNKNOWN),
    sort: (job) => job.gpu_count },
  { key: "watts", heading: "Watts", number: true, text: (job) => watts(job.gpu_watts),
    sort: (job) => job.gpu_watts ?? -1 },
  { key: "cap", heading: "Cap", text: capWord, sort: (job) => job.slowdown_ratio ?? 0 },
  { key: "flex", heading: "Flex", text: (job) => job.flex || "", sort: (job) => job.flex },
  { key: "tier", heading: "Tier", text: (job) => job.tier || "", sort: (job) => job.tier ?? "" },
  { key: "hold", heading: "Hold", text: holdWord, sort: (job) => job.hold_ends_in_seconds ?? -1 },
];

function stateWord(job) {
  return isNumber(job.paused_seconds) ? "paused" : job.state;
}

function capWord(job) {
  if (!isNumber(job.cap_watts)) return "";
  const slower = job.slowdown_ratio > 0.005 ? `, ${percent(job.slowdown_ratio)} slower` : "";
  return `${Math.round(job.cap_watts)} W/GPU${slower}`;
}

function holdWord(job) {
  if (isNumber(job.hold_ends_in_seconds)) return `held, ${duration(job.hold_ends_in_seconds)} at most`;
  if (isNumber(job.paused_seconds)) return `paused ${duration(job.paused_seconds)}`;
  return job.held_seconds > 0.5 ? `was held ${duration(job.held_seconds)}` : "";
}

/** Why the job is as it is, in a sentence. */
export function whyWord(job) {
  return job.hold_reason || job.pause_reason || job.cap_reason || job.pending_reason || "";
}

export function touched(job) {
  return isNumber(job.cap_watts) || isNumber(job.hold_ends_in_seconds) || isNumber(job.paused_seconds);
}

const STATES = {
  all: () => true,
  touched,
  running: (job) => job.state !== "pending",
  pending: (job) => job.state === "pending",
};

/** The jobs that are wanted, one's own first, then by a column. */
export function chosen(jobs, { text, state, column, down, own }) {
  const wanted = text.trim().toLowerCase();
  const names = (job) => [job.job_id, job.name, job.user, job.account, job.tier].join(" ").toLowerCase();
  const found = jobs.filter((job) => STATES[state](job) && (!wanted || names(job).includes(wanted)));
  const by = COLUMNS.find((one) => one.key === column).sort;
  return found.toSorted((one, other) => {
    const mine = Number(other.user === own) - Number(one.user === own);
    return mine || (down ? -1 : 1) * compare(by(one), by(other)) || compare(one.job_id, other.job_id);
  });
}

function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined || Number.isNaN(one)) return 1;
  if (other === null || other === undefined || Number.isNaN(other)) return -1;
  return one < other ? -1 : 1;
}
