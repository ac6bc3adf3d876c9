// The table of jobs: what each draws, how it is held back, and why.

import { keep, make, setAttribute, setText } from "./elements.js";
import { plural, watts } from "./format.js";
import { COLUMNS, chosen, touched, whyWord } from "./jobs_table.js";
import { Pages } from "./pages.js";
import { showWhy } from "./why.js";

const PAGE = 14;

export class JobsPanel {
  constructor() {
    this.body = document.querySelector("#jobs tbody");
    this.head = document.querySelector("#jobs thead tr");
    this.totals = document.getElementById("jobs-totals");
    this.empty = document.getElementById("jobs-empty");
    this.text = document.getElementById("jobs-filter");
    this.state = document.getElementById("jobs-state");
    this.order = { column: "watts", down: true };
    this.pages = new Pages(document.getElementById("jobs-pages"), PAGE, () => this.show());
    for (const column of COLUMNS) this.head.append(this.heading(column));
    this.head.append(make("th", { scope: "col" }, "Why"));
    for (const input of [this.text, this.state]) {
      input.addEventListener("input", () => {
        this.pages.first();
        this.show();
      });
    }
  }

  heading(column) {
    const button = make("button", { type: "button", "data-column": column.key }, column.heading);
    button.addEventListener("click", () => {
      const again = this.order.column === column.key;
      this.order = { column: column.key, down: again ? !this.order.down : Boolean(column.number) };
      this.pages.first();
      this.show();
    });
    return make("th", { scope: "col", class: column.number ? "number" : null, "data-column": column.key },
      button);
  }

  update(picture) {
    this.picture = picture;
    this.show();
  }

  show() {
    if (!this.picture) return;
    const { jobs, jobs_left_off: leftOff, you } = this.picture;
    const wanted = chosen(jobs, { text: this.text.value, state: this.state.value, ...this.order,
      own: you?.name });
    for (const cell of this.head.querySelectorAll("th[data-column]")) {
      const sorted = cell.dataset.column === this.order.column;
      setAttribute(cell, "aria-sort", sorted ? (this.order.down ? "descending" : "ascending") : null);
    }
    const rows = this.pages.cut(wanted, leftOff ?? 0);
    keep(this.body, rows, (job) => job.job_id, (job) => newRow(job),
      (child, job) => fill(child, job, you?.name));
    this.empty.hidden = wanted.length > 0;
    setText(this.empty, jobs.length ? "No job is like that." : "No job of yours is here.");
    this.showTotals();
  }

  showTotals() {
    const { job_counts: counts = {}, others } = this.picture;
    const words = [
      `${counts.running ?? 0} running`,
      `${counts.pending ?? 0} waiting`,
      `${counts.capped ?? 0} capped`,
      `${counts.held ?? 0} held`,
      `${counts.paused ?? 0} paused`,
    ];
    const size = others ? `on ${plural(others.gpu_count ?? 0, "GPU")} with ${watts(others.watts)}` : "";
    const rest = others ? `; of others ${others.running ?? 0} running ${size}` : "";
    setText(this.totals, words.join(", ") + rest);
  }
}

function newRow(job) {
  const button = make("button", { type: "button", class: "plain reason" });
  button.addEventListener("click", () => showWhy(job.job_id, button.dataset.why));
  const cells = COLUMNS.slice(1).map((column) =>
    make("td", { class: column.number ? "number" : null, "data-name": column.heading }));
  return make("tr", {},
    make("th", { scope: "row" }, make("span", { class: "muted" }, `${job.job_id} `), make("span"), " ",
      make("span", { class: "tag own" }, "yours")),
    ...cells,
    make("td", { class: "wide", "data-name": "Why" }, button),
  );
}

function fill(child, job, own) {
  const [head, ...cells] = child.children;
  setText(head.children[1], COLUMNS[0].text(job));
  head.children[2].hidden = job.user !== own;
  COLUMNS.slice(1).forEach((column, place) => {
    const text = column.text(job);
    setText(cells[place], text);
    const base = column.number ? "number" : "";
    setAttribute(cells[place], "class", text === "" ? `${base} nothing`.trim() : base || null);
  });
  const button = cells.at(-1).firstElementChild;
  button.dataset.why = whyWord(job);
  setText(button, whyWord(job) || (touched(job) ? "why" : "explain"));
  setAttribute(button, "aria-label", `Why job ${job.job_id} is as it is: ${whyWord(job) || "explain"}`);
}
