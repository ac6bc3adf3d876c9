// Batteries: what each does, how full and how worn it is, what it will do next, and why.

import { facts, gauge, keep, make, setAttribute, setGauge, setText } from "./elements.js";
import { essWord } from "./figures.js";
import { duration, isNumber, kwh, percent, watts } from "./format.js";

export class EssPanel {
  constructor() {
    this.list = document.getElementById("ess-list");
    this.empty = document.getElementById("ess-empty");
  }

  update(picture) {
    const rows = picture.ess ?? [];
    this.empty.hidden = rows.length > 0;
    keep(this.list, rows, (ess) => ess.name, newEss, fillEss);
  }
}

function newEss(ess) {
  return make("div", { class: "ess" },
    make("h3", {}, ess.name),
    make("p", { class: "state" }),
    gauge("charge"),
    make("dl"),
    make("div", { class: "next" }, make("p"), make("p", { class: "note" })),
  );
}

function fillEss(child, ess) {
  const [, state, bar, list, next] = child.children;
  const word = essWord(ess);
  setText(state, word[0].toUpperCase() + word.slice(1));
  setAttribute(state, "class", ess.alarms?.length || ess.usable === false ? "state wrong" : "state");
  setGauge(bar, ess.soc_ratio, ess.soc_ratio < 0.15 ? "near" : "room", "charge");
  const full = isNumber(ess.energy_rating_kwh) && isNumber(ess.soh_ratio)
    ? ess.energy_rating_kwh * ess.soh_ratio : null;
  const energy = full === null ? "" : `, ${kwh(full * ess.soc_ratio)} of ${kwh(full)}`;
  facts(list, [
    ["Charge", percent(ess.soc_ratio) + energy],
    ["Health", percent(ess.soh_ratio)],
    ["Can discharge", watts(ess.max_discharge_watts)],
    ["Can charge", watts(ess.max_charge_watts)],
    ["On circuit", ess.circuit],
    ["Data", ess.quality === "good" ? null : ess.quality],
  ]);
  setText(next.firstElementChild, nextSentence(ess.next));
  setText(next.lastElementChild, ess.next?.reason ?? "");
}

function nextSentence(next) {
  if (!next) return "Next: not known";
  const does = { discharge: "discharge", charge: "charge", rest: "rest", nothing: "do nothing",
    "hold level": "hold the level" }[next.does] ?? next.does;
  const much = isNumber(next.watts) ? (next.does === "hold level" ? ` of ${watts(next.watts)}`
    : ` ${watts(next.watts)}`) : "";
  const when = isNumber(next.in_seconds) && next.in_seconds > 0 ? ` in ${duration(next.in_seconds)}` : "";
  return `Next: ${does}${much}${when}`;
}
