// Power of a circuit against its limit: what was, what is expected, what is due.

import { get, path } from "./api.js";
import { RANGES, columns, joined, sentences, startSentence, tableRows } from "./chart_data.js";
import { keep, make, setAttribute, setText } from "./elements.js";
import { clock, isNumber, secondsOf, watts } from "./format.js";
import { powerPlot } from "./power_plot.js";
import { Ring } from "./ring.js";

const FORECAST_AGAIN_SECONDS = 20;
const MOST_MARKS = 4;

export class PowerPanel {
  constructor() {
    this.panel = document.getElementById("power");
    this.element = document.getElementById("power-chart");
    this.select = document.getElementById("power-circuit");
    this.problem = document.getElementById("power-problem");
    this.ring = new Ring();
    this.range = "hour";
    this.circuit = null;
    this.history = null;
    this.forecast = null;
    this.marks = { at: 0, events: [], starts: [], limit: null };
    this.cursor = null;
    for (const button of this.panel.querySelectorAll("[data-range]")) {
      button.addEventListener("click", () => this.choose(this.circuit, button.dataset.range));
    }
    this.select.addEventListener("change", () => this.choose(this.select.value, this.range));
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  /** Show another circuit or another span. */
  choose(circuit, range = this.range) {
    const other = circuit !== this.circuit;
    this.circuit = circuit;
    this.range = range;
    if (other) this.ring.clear();
    this.history = null;
    this.forecast = null;
    for (const button of this.panel.querySelectorAll("[data-range]")) {
      setAttribute(button, "aria-pressed", String(button.dataset.range === range));
    }
    if (this.select.value !== circuit) this.select.value = circuit;
    this.load();
    if (this.picture) this.update(this.picture);
  }

  async load() {
    const [circuit, range] = [this.circuit, this.range];
    const { reach } = RANGES[range];
    this.historyAt = this.forecastAt = performance.now();
    const asked = [
      this.askHistory(circuit, range).then((answer) => this.takeHistory(circuit, range, answer)),
      get(path("forecast"), { circuit, reach }).then((answer) => this.takeForecast(circuit, range, answer)),
    ];
    const failed = (await Promise.allSettled(asked)).find((one) => one.status === "rejected");
    setText(this.problem, failed ? `Not all is here: ${failed.reason.message}` : "");
  }

  /** The span as the server has it, its newest part finer where that is kept. */
  async askHistory(circuit, range) {
    const { seconds, fine } = RANGES[range];
    const spans = fine ? [seconds, fine] : [seconds];
    const [coarse, newest] = await Promise.all(spans.map((span) =>
      get(path("history"), { circuit, seconds: span })));
    return newest ? joined(coarse, newest) : coarse;
  }

  takeHistory(circuit, range, answer) {
    if (circuit !== this.circuit || range !== this.range) return;
    this.history = answer;
    const last = this.history.at_seconds?.at(-1);
    if (isNumber(last)) this.ring.dropUntil(last);
    this.draw();
  }

  takeForecast(circuit, range, answer) {
    if (circuit !== this.circuit || range !== this.range) return;
    this.forecast = answer;
    this.draw();
  }

  update(picture) {
    this.picture = picture;
    this.fillSelect(picture);
    if (this.circuit === null) this.choose(picture.standing.circuit);
    const row = picture.circuits.find((circuit) => circuit.name === this.circuit);
    this.now = {
      at: secondsOf(picture.at),
      watts: row?.watts ?? null,
      limit: row?.limit_watts ?? null,
      level: this.level(picture),
    };
    this.ring.push({ at: this.now.at, watts: this.now.watts, limit: this.now.limit });
    this.markUp(picture);
    this.now.events = this.marks.events;
    const due = [picture.events, picture.starts].flat().map((one) => one?.event_id ?? one?.job_id).join();
    const age = (since) => (performance.now() - since) / 1000;
    if (age(this.historyAt) > RANGES[this.range].again) this.load();
    else if (due !== this.due || age(this.forecastAt) > FORECAST_AGAIN_SECONDS) this.loadForecast();
    this.due = due;
    this.draw();
  }

  async loadForecast() {
    const [circuit, range] = [this.circuit, this.range];
    this.forecastAt = performance.now();
    try {
      this.takeForecast(circuit, range, await get(path("forecast"), { circuit, reach: RANGES[range].reach }));
    } catch {
      // The one shown says when it was issued; the next try is near.
    }
  }

  /** What the batteries hold the grid connection to, null where they hold nothing. */
  level(picture) {
    if (this.circuit !== picture.standing.circuit) return null;
    const held = (picture.ess ?? []).find((ess) => ess.next?.does === "hold level");
    return picture.level?.level_watts ?? held?.next.watts ?? null;
  }

  markUp(picture) {
    const { at } = this.now;
    this.marks.at = at;
    this.marks.limit = this.now.limit;
    this.marks.events = (picture.events ?? [])
      .filter((event) => event.circuit === this.circuit && event.ends_in_seconds > 0)
      .slice(0, MOST_MARKS)
      .map((event) => ({ from: at + event.starts_in_seconds, to: at + event.ends_in_seconds,
        watts: event.limit_watts }));
    const starts = (picture.starts ?? []).filter((start) => isNumber(start.step_watts?.[this.circuit]));
    this.marks.starts = starts
      .filter((start) => isNumber(start.lead_seconds))
      .slice(0, MOST_MARKS)
      .map((start) => ({ at: at + start.lead_seconds,
        text: `+${watts(start.step_watts[this.circuit])} ${start.name || "start"}` }));
    keep(
      document.getElementById("power-starts"),
      starts.slice(0, MOST_MARKS),
      (start) => `${start.job_id}${start.earliest}`,
      () => make("li"),
      (child, start) => setText(child, startSentence(start, this.circuit)),
    );
  }

  fillSelect(picture) {
    keep(
      this.select,
      picture.circuits,
      (circuit) => circuit.name,
      (circuit) => make("option", { value: circuit.name }, circuit.name),
      () => {},
    );
    if (this.circuit !== null && this.select.value !== this.circuit) this.select.value = this.circuit;
  }

  draw() {
    if (!this.now) return;
    this.data = columns(this.range, this.history, this.ring.points, this.forecast, this.now);
    if (this.plot) this.plot.setData(this.data);
    else this.plot = powerPlot(this.element, this.data, () => this.marks, (place) => this.point(place));
    const said = sentences(this.range, this.data, this.marks, this.now, this.circuit);
    setText(document.getElementById("power-summary"), said.slice(1).join(" "));
    // As its name the chart has what stays true for a while: what moves each second is in the headline.
    setAttribute(this.element, "aria-label",
      `Power of ${this.circuit} against its limit. A summary and a table follow.`);
    this.showKeys();
    if (document.getElementById("power-table").open) this.showTable();
  }

  point(place) {
    this.cursor = place;
    this.showKeys();
  }

  showKeys() {
    if (!this.data) return;
    const [at, ...values] = this.data;
    const place = this.cursor ?? at.findLastIndex((seconds) => seconds <= this.now.at);
    setText(document.getElementById("power-at"), this.cursor === null ? "now" : `at ${clock(at[place])}`);
    const names = ["measured", "limit", "natural", "low", "middle", "high", "level"];
    for (const item of this.panel.querySelectorAll("[data-series]")) {
      // Without a cursor, what is expected is that of the next step: of now it is what is measured.
      const expected = /low|middle/.test(item.dataset.series) && this.cursor === null;
      const step = expected && place < at.length - 1 ? place + 1 : place;
      const found = item.dataset.series.split(" ").map((name) => values[names.indexOf(name)][step]);
      item.hidden = !found.some(isNumber) && !/measured|limit/.test(item.dataset.series);
      setText(item.querySelector("b"), found.map(watts).join(" to "));
    }
  }

  showTable() {
    keep(
      document.getElementById("power-rows"),
      tableRows(this.data),
      (row) => row[0],
      (row) => make("tr", {}, make("th", { scope: "row" }, clock(row[0])),
        [1, 2, 4, 6].map(() => make("td", { class: "number" }))),
      (child, row) => [1, 2, 4, 6].forEach((column, place) =>
        setText(child.children[place + 1], watts(row[column]))),
    );
  }

  resize() {
    if (!this.plot || !this.element.clientWidth) return;
    this.plot.setSize({ width: this.element.clientWidth, height: this.element.clientHeight });
  }

  /** Colours have changed: a canvas has to be told. */
  repaint() {
    if (!this.plot) return;
    this.plot.destroy();
    this.plot = null;
    this.draw();
  }
}
