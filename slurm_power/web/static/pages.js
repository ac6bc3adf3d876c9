// Lists in pages: however much there is, a page has so many rows.

import { make, setText } from "./elements.js";

export class Pages {
  /** `element` gets the buttons; `onTurn` is called when another page is wanted. */
  constructor(element, size, onTurn) {
    this.size = size;
    this.page = 0;
    this.text = make("span");
    this.back = make("button", { type: "button" }, "Previous");
    this.on = make("button", { type: "button" }, "Next");
    this.back.addEventListener("click", () => this.turn(-1, onTurn));
    this.on.addEventListener("click", () => this.turn(1, onTurn));
    this.element = element;
    element.append(this.back, this.on, this.text);
  }

  turn(by, onTurn) {
    this.page += by;
    onTurn();
  }

  first() {
    this.page = 0;
  }

  /** The rows of the page that is shown. */
  cut(rows, leftOff = 0) {
    const last = Math.max(0, Math.ceil(rows.length / this.size) - 1);
    this.page = Math.max(0, Math.min(this.page, last));
    const from = this.page * this.size;
    const found = rows.slice(from, from + this.size);
    const more = leftOff ? `, ${leftOff} more are not listed` : "";
    setText(this.text, rows.length ? `${from + 1} to ${from + found.length} of ${rows.length}${more}` : "");
    this.back.disabled = this.page === 0;
    this.on.disabled = this.page === last;
    this.element.hidden = last === 0 && !leftOff;
    this.back.hidden = this.on.hidden = last === 0;
    return found;
  }
}
