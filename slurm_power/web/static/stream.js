// Pictures of the site as they come. A stream that stops is opened again, later each time; how old the newest
// picture is counts from when its time last moved, so that neither clock has to be right.

import { path } from "./api.js";

export const STALE_SECONDS = 5;
const FIRST_WAIT_SECONDS = 1;
const LONGEST_WAIT_SECONDS = 30;
const SILENT_SECONDS = 15;
const AWAY_SECONDS = 60;

export class Stream {
  /** `onPicture` takes a picture, `onLost` is told when the stream has gone away. */
  constructor(onPicture, onLost) {
    this.onPicture = onPicture;
    this.onLost = onLost;
    this.waitSeconds = FIRST_WAIT_SECONDS;
    this.newsAt = performance.now();
    this.heardAt = performance.now();
    this.lastTime = null;
    this.reason = "";
    this.open();
    this.watcher = setInterval(() => this.watch(), 1000);
  }

  /** Seconds since a picture last told something new. */
  get ageSeconds() {
    return (performance.now() - this.newsAt) / 1000;
  }

  get stale() {
    return this.ageSeconds >= STALE_SECONDS;
  }

  open() {
    clearTimeout(this.timer);
    this.heardAt = performance.now();
    this.source = new EventSource(path("stream"));
    this.source.addEventListener("site", (event) => this.hear(event.data));
    this.source.addEventListener("away", (event) => this.away(event.data));
    this.source.addEventListener("bye", (event) => this.lose(told(event.data, "reason")));
    this.source.onerror = () => this.lose("");
  }

  /** For good. */
  close() {
    clearInterval(this.watcher);
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.onLost = () => {};
  }

  hear(text) {
    let picture;
    try {
      picture = JSON.parse(text);
    } catch {
      return; // cut off: the next one is whole again
    }
    this.heardAt = performance.now();
    this.waitSeconds = FIRST_WAIT_SECONDS;
    if (picture.at !== this.lastTime) {
      this.lastTime = picture.at;
      this.newsAt = this.heardAt;
      this.reason = "";
    }
    this.onPicture(picture);
  }

  /** The server is there and the controller is not: the server tells when it is back. */
  away(text) {
    this.heardAt = performance.now() + AWAY_SECONDS * 1000;
    this.reason = told(text, "error");
  }

  /** Close and try again later, between half and all of a wait that doubles, so that not all come at once. */
  lose(reason) {
    if (!this.source) return;
    this.source.close();
    this.source = null;
    if (reason) this.reason = reason;
    const wait = this.waitSeconds * (0.5 + Math.random() / 2);
    this.waitSeconds = Math.min(LONGEST_WAIT_SECONDS, this.waitSeconds * 2);
    this.timer = setTimeout(() => this.open(), wait * 1000);
    this.onLost();
  }

  /** A connection that says nothing for long is dead, whatever the network thinks of it. */
  watch() {
    if (this.source && performance.now() - this.heardAt > SILENT_SECONDS * 1000) this.lose("");
  }
}

function told(text, key) {
  try {
    return String(JSON.parse(text)[key] || "");
  } catch {
    return "";
  }
}
