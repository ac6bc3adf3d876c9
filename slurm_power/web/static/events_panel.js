// Grid events: coming and running ones from the picture, past ones on demand; operators make and cancel them.

import { get, path } from "./api.js";
import { keep, make, setAttribute, setText } from "./elements.js";
import { cancelEvent, createEvent } from "./event_form.js";
import { clock, day, duration, isNumber, percent, secondsOf, watts, words } from "./format.js";

const MOST_PAST = 20;

export class EventsPanel {
  constructor(done) {
    this.done = done;
    this.list = document.getElementById("events-list");
    this.empty = document.getElementById("events-empty");
    this.create = document.getElementById("events-create");
    this.past = document.getElementById("events-past");
    this.create.addEventListener("click", () => createEvent(this.picture, done));
    this.past.addEventListener("toggle", () => this.past.open && this.showPast());
  }

  mayDo(yes) {
    this.may = yes;
    this.create.hidden = !yes;
  }

  update(picture) {
    this.picture = picture;
    const rows = picture.events ?? [];
    this.empty.hidden = rows.length > 0;
    keep(this.list, rows, (event) => event.event_id, (event) => this.newEvent(event),
      (child, event) => this.fill(child, event));
  }

  newEvent(event) {
    const cancel = make("button", { type: "button" }, "Cancel event");
    cancel.addEventListener("click", () => cancelEvent(event, this.done));
    return make("li", { class: "event" },
      make("p", {}, make("span", { class: "tag" }), " ", make("strong")),
      cancel,
      make("p", { class: "whole" }),
      make("p", { class: "note whole" }),
    );
  }

  fill(child, event) {
    const [head, cancel, when, why] = child.children;
    const [tag, title] = head.children;
    const late = event.starts_in_seconds <= 0;
    setText(tag, words(event.phase || (late ? "running" : "coming")));
    setAttribute(tag, "class", late && event.ends_in_seconds > 0 ? "tag near" : "tag");
    setText(title, `${event.circuit}: at most ${watts(event.limit_watts)}`);
    cancel.hidden = !this.may;
    setAttribute(cancel, "aria-label", `Cancel event ${event.event_id}`);
    const at = secondsOf(this.picture.at);
    const from = moment(at + event.starts_in_seconds, at);
    const to = moment(at + event.ends_in_seconds, at);
    setText(when, `${from} to ${to}: ${relative(event)}`);
    const base = isNumber(event.baseline_watts) ? `; baseline ${watts(event.baseline_watts)}` : "";
    setText(why, `${event.event_id}, ${words(event.commitment)}${base}: ${event.reason}`);
  }

  async showPast() {
    const list = this.past.querySelector("ul");
    try {
      const { events } = await get(path("events"));
      const open = new Set((this.picture?.events ?? []).map((event) => event.event_id));
      const past = events.filter((event) => !open.has(event.event_id)).slice(-MOST_PAST).reverse();
      list.replaceChildren(...(past.length ? past.map(pastRow)
        : [make("li", { class: "empty" }, "None yet.")]));
    } catch (error) {
      list.replaceChildren(make("li", { class: "wrong" }, error.message));
    }
  }
}

function pastRow(event) {
  const at = secondsOf(event.starts_at);
  const when = at === null ? "" : `${day(at)} ${clock(at)}, `;
  const delivered = event.result?.delivered_ratio;
  const met = isNumber(delivered) ? `${percent(delivered)} of what was promised` : "not measured";
  return make("li", { class: "event" },
    make("p", {}, `${event.event_id}: ${when}${event.circuit} at most ${watts(event.limit_watts)}`),
    make("p", { class: "number" }, met),
    make("p", { class: "note whole" }, event.reason));
}

function moment(seconds, now) {
  return day(seconds) === day(now) ? clock(seconds) : `${day(seconds)} ${clock(seconds)}`;
}

function relative(event) {
  if (event.starts_in_seconds > 0) return `in ${duration(event.starts_in_seconds)}`;
  if (event.ends_in_seconds > 0) return `${duration(event.ends_in_seconds)} left`;
  return `over for ${duration(-event.ends_in_seconds)}, recovering`;
}
