// The circuit tree: what each draws of its limit, and how close that is.

import { gauge, keep, make, setAttribute, setGauge, setText } from "./elements.js";
import { levelOf, levelWord, ofText } from "./figures.js";
import { percent, watts } from "./format.js";
import { Pages } from "./pages.js";
import { shareOf, treeRows } from "./tree.js";

const PAGE = 60;
const OPEN_AT_FIRST = 24;

export class CircuitsPanel {
  /** `onChoose` is called with the circuit whose course is wanted. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.body = document.querySelector("#circuits tbody");
    this.filter = document.getElementById("circuits-filter");
    this.pages = new Pages(document.getElementById("circuits-pages"), PAGE, () => this.show());
    this.said = new Map(); // what was folded or opened by hand, by name
    this.filter.addEventListener("input", () => {
      this.pages.first();
      this.show();
    });
  }

  update(picture) {
    this.picture = picture;
    this.show();
  }

  show() {
    if (!this.picture) return;
    const { circuits, circuits_left_off: leftOff } = this.picture;
    const wanted = this.filter.value.trim().toLowerCase();
    const matches = wanted ? (circuit) => circuit.name.toLowerCase().includes(wanted) : null;
    const large = circuits.length > OPEN_AT_FIRST;
    const folded = (name, depth) => this.said.get(name) ?? (large && depth > 0);
    const rows = this.pages.cut(treeRows(circuits, folded, matches), leftOff);
    keep(this.body, rows, (row) => row.circuit.name, (row) => this.newRow(row),
      (child, row) => this.fill(child, row));
  }

  newRow({ circuit }) {
    const name = make("button", { type: "button", class: "plain", title: "Show its power in the chart" },
      circuit.name);
    name.addEventListener("click", () => this.onChoose(circuit.name));
    const fold = make("button", { type: "button", class: "fold" });
    fold.addEventListener("click", () => {
      this.said.set(circuit.name, fold.getAttribute("aria-expanded") === "true");
      this.show();
    });
    return make("tr", {},
      make("th", { scope: "row" }, make("div", { class: "named" }, fold, make("span", { class: "leaf" }),
        name)),
      make("td", { class: "bar-cell" }, gauge()),
      make("td", { class: "number" }),
      make("td"),
    );
  }

  fill(child, { circuit, depth, children, open }) {
    const [head, bar, draw, word] = child.children;
    const [fold, leaf] = head.firstElementChild.children;
    head.style.setProperty("--depth", depth);
    fold.hidden = children === 0;
    leaf.hidden = children > 0;
    setText(fold, open ? "\u25be" : "\u25b8");
    setAttribute(fold, "aria-expanded", String(open));
    setAttribute(fold, "aria-label", `${circuit.name}: ${children} circuits below`);
    const share = shareOf(circuit);
    const left = share === null ? null : circuit.limit_watts - circuit.watts;
    const measured = circuit.quality !== null || share !== null;
    const level = share === null ? (measured ? "unknown" : "unmetered") : levelOf(share);
    setGauge(bar.firstElementChild, share, level);
    setText(draw, share === null ? `\u2013 of ${watts(circuit.limit_watts)}`
      : ofText(circuit.watts, circuit.limit_watts));
    setText(word, share === null ? (measured ? "no data" : "no meter")
      : `${percent(share)}, ${levelWord(share)}`);
    setAttribute(word, "class", `word-${level}`);
    setAttribute(word, "title", circuit.reason
      || `${circuit.limit_kind} limit, ${watts(left)} left`);
  }
}
