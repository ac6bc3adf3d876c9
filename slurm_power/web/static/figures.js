// The row of figures below the headline, and the words in the bar above it.

import { keep, make, setAttribute, setText } from "./elements.js";
import { clock, isNumber, percent, plural, secondsOf, watts } from "./format.js";

export class Figures {
  constructor() {
    this.list = document.getElementById("figures");
    this.mode = document.getElementById("mode");
    this.site = document.getElementById("site");
    this.fresh = document.getElementById("fresh");
  }

  update(picture) {
    setText(this.site, picture.site);
    setText(this.fresh, `as of ${clock(secondsOf(picture.at), true)}`);
    this.showMode(picture);
    keep(
      this.list,
      figures(picture),
      (figure) => figure.name,
      (figure) => make("div", {}, make("dt", {}, figure.name),
        // So the browser says when the first picture was painted.
        make("dd", { elementtiming: "first-picture" }, make("span"), make("span", { class: "remark" }))),
      (child, figure) => {
        const [value, remark] = child.lastElementChild.children;
        setText(value, figure.value);
        setText(remark, figure.remark ?? "");
        setAttribute(value, "class", figure.level ? `word-${figure.level}` : null);
      },
    );
  }

  showMode(picture) {
    const until = secondsOf(picture.paused_until);
    let text = picture.mode === "control" ? "Control on" : "Control off: only watches, touches nothing";
    if (until !== null) text = `Control paused until ${clock(until)}`;
    setText(this.mode, text);
    setAttribute(this.mode, "class", picture.mode === "control" ? "chip" : "chip near");
  }
}

function figures(picture) {
  const { standing } = picture;
  const share = isNumber(standing.watts) && standing.limit_watts > 0 ? standing.watts / standing.limit_watts
    : null;
  const counts = picture.job_counts ?? {};
  const touched = ["capped", "held", "paused"].filter((word) => counts[word]).map((word) =>
    `${counts[word]} ${word}`);
  const found = [
    { name: "Draws now", value: watts(standing.watts), remark: share === null ? "not measured"
      : `${percent(share)} of the limit` },
    { name: "Limit", value: watts(standing.limit_watts), remark: standing.circuit },
    { name: "Left", value: watts(standing.margin_watts), level: share === null ? "unknown" : levelOf(share),
      remark: levelWord(share) },
  ];
  if (standing.tightest && standing.tightest !== standing.circuit) {
    found.push({ name: "Tightest circuit", value: watts(standing.tightest_watts),
      remark: `left on ${standing.tightest}` });
  }
  for (const ess of (picture.ess ?? []).slice(0, 1)) {
    found.push({ name: "Battery", value: percent(ess.soc_ratio), remark: essWord(ess) });
  }
  found.push({
    name: "Jobs running",
    value: String(counts.running ?? 0),
    remark: touched.length ? touched.join(", ") : `none touched, ${counts.pending ?? 0} waiting`,
  });
  const { good = 0, questionable = 0, invalid = 0 } = picture.sources ?? {};
  const bad = questionable + invalid;
  const remark = [invalid ? `${invalid} invalid` : "", questionable ? `${questionable} questionable` : ""];
  found.push({
    name: "Data",
    value: bad ? `${good} of ${good + bad} good` : "all good",
    level: bad ? "near" : null,
    remark: bad ? remark.filter(Boolean).join(", ") : plural(good, "source"),
  });
  return found;
}

/** How close to a limit a share of it is: below 70 %, 90 % and 100 %. */
export function levelOf(share) {
  if (!isNumber(share)) return "unknown";
  if (share > 1) return "above";
  if (share >= 0.9) return "tight";
  return share >= 0.7 ? "near" : "room";
}

export function levelWord(share) {
  return { unknown: "not measured", above: "above", tight: "tight", near: "near",
    room: "room" }[levelOf(share)];
}

/** 17.2 of 20.0 kW: a unit once is enough where both have it. */
export function ofText(part, whole) {
  const [one, other] = [watts(part), watts(whole)];
  const unit = other.split(" ")[1];
  return `${one.endsWith(` ${unit}`) ? one.slice(0, -unit.length - 1) : one} of ${other}`;
}

/** What a battery does now, in a word. */
export function essWord(ess) {
  if (ess.alarms?.length) return `alarm: ${ess.alarms.join(", ")}`;
  if (ess.usable === false) return "not usable";
  if (!isNumber(ess.discharge_watts) || Math.abs(ess.discharge_watts) < 50) return "resting";
  return ess.discharge_watts > 0 ? `discharging ${watts(ess.discharge_watts)}`
    : `charging ${watts(-ess.discharge_watts)}`;
}
