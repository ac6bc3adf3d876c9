// The ledger as a timeline: the newest page follows by itself, older pages come on demand.

import { get, path } from "./api.js";
import { keep, make, setText } from "./elements.js";
import { clock, day, secondsOf, signedWatts, isNumber, words } from "./format.js";

const PAGE = 12;
const FOLLOW_SECONDS = 3;
const WAIT_MILLISECONDS = 400;

export class LedgerPanel {
  constructor() {
    this.list = document.getElementById("ledger-list");
    this.note = document.getElementById("ledger-note");
    this.kind = document.getElementById("ledger-kind");
    this.job = document.getElementById("ledger-job");
    this.older = document.getElementById("ledger-older");
    this.newest = document.getElementById("ledger-newest");
    this.entries = [];
    this.kinds = new Set();
    this.before = null; // the sequence that the page ends before; null: the newest page
    this.lookedAt = 0;
    this.older.addEventListener("click", () => this.look(this.entries.at(-1)?.sequence ?? null));
    this.newest.addEventListener("click", () => this.look(null));
    for (const input of [this.kind, this.job]) {
      input.addEventListener("input", () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.look(null), WAIT_MILLISECONDS);
      });
    }
  }

  /** Called with each picture: follow the newest page every few seconds. */
  update() {
    if (this.before === null && performance.now() - this.lookedAt > FOLLOW_SECONDS * 1000) this.look(null);
  }

  async look(before) {
    this.lookedAt = performance.now();
    const wanted = { kind: this.kind.value, job: this.job.value.trim(), before, most: PAGE };
    this.asked = wanted;
    try {
      const answer = await get(path("ledger"), wanted);
      if (this.asked !== wanted) return; // another page is wanted meanwhile
      this.before = before;
      this.show(answer);
    } catch (error) {
      setText(this.note, `The ledger cannot be read now: ${error.message}`);
    }
  }

  show(answer) {
    const entries = answer.entries.toSorted((one, other) => other.sequence - one.sequence).slice(0, PAGE);
    this.entries = entries;
    this.offer(entries);
    const broken = answer.broken_at_sequence;
    setText(this.note, isNumber(broken) ? `THE CHAIN IS BROKEN at entry ${broken}: somebody has changed it.`
      : this.before === null ? "Newest first; each entry is chained to the one before."
        : `Entries before ${this.before}.`);
    this.note.className = isNumber(broken) ? "wrong" : "note";
    this.newest.hidden = this.before === null;
    this.older.disabled = answer.more === false || entries.length < PAGE;
    keep(this.list, withDays(entries), (row) => row.key, newRow, () => {});
    if (!entries.length) this.list.replaceChildren(make("li", { class: "empty" },
      "Nothing is written of that."));
  }

  /** Kinds to choose from: those that were seen. */
  offer(entries) {
    for (const { kind } of entries) {
      if (this.kinds.has(kind) || this.kinds.size > 60) continue;
      this.kinds.add(kind);
      this.kind.append(make("option", { value: kind }, words(kind)));
    }
  }
}

function withDays(entries) {
  const rows = [];
  let last = "";
  for (const entry of entries) {
    const date = day(secondsOf(entry.at) ?? 0);
    if (date !== last) rows.push({ key: date, date });
    last = date;
    rows.push({ key: entry.sequence, entry });
  }
  return rows;
}

function newRow({ date, entry }) {
  if (date) return make("li", { class: "day" }, date);
  const saved = isNumber(entry.saved_watts) && entry.saved_watts !== 0
    ? ` (${signedWatts(entry.saved_watts)} saved)` : "";
  return make("li", {},
    make("time", { datetime: entry.at }, clock(secondsOf(entry.at), true)),
    make("span", { class: "kind" }, words(entry.kind)),
    make("span", { class: "what" }, `${entry.subject}: ${entry.reason}${saved} `,
      make("span", { class: "muted" }, `by ${entry.actor}`)),
  );
}
