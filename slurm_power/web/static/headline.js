// The first heading: how the site stands, in the words of the controller, by colour, word and shape.

import { keep, make, setAttribute, setText } from "./elements.js";
import { duration } from "./format.js";

const SPEAK_AGAIN_MILLISECONDS = 60_000;
const MOST_RISKS = 6;

export class Headline {
  constructor() {
    this.band = document.getElementById("headline");
    this.title = this.band.querySelector("h1");
    this.use = this.band.querySelector("use");
    this.risks = this.band.querySelector("ul");
    this.speaker = document.getElementById("speaker");
    this.picture = null;
    this.spoken = "";
    this.spokenAt = 0;
  }

  update(picture) {
    this.picture = picture;
    const { standing } = picture;
    this.show(standing.safe ? "safe" : "risk", standing.headline);
    const more = standing.risks.slice(0, MOST_RISKS).map((risk, place) => ({ risk, place }));
    keep(
      this.risks,
      more,
      ({ risk }) => `${risk.danger} ${risk.circuit}`,
      () => make("li"),
      (child, { risk, place }) => {
        const why = risk.reason ? `: ${risk.reason}` : "";
        setText(child, place === 0 ? risk.reason : `${risk.text}${why}`);
        child.hidden = child.textContent === "";
      },
    );
    document.body.classList.remove("stale");
    document.title = `${standing.word}: ${picture.site}`;
    this.speak(standing.word, standing.headline,
      standing.risks.map((risk) => risk.danger + risk.circuit).join());
  }

  /** Nothing new has come for `seconds`: what was said last is still shown, as what it is. */
  stale(seconds, reason) {
    const last = this.picture ? ` Last known: ${this.picture.standing.headline}` : "";
    const why = reason ? ` (${reason})` : "";
    this.show("stale", `No news for ${duration(seconds)}${why}.${last}`);
    document.body.classList.add("stale");
    document.title = "No news";
    this.speak("stale", "No news from the site.", "stale");
  }

  /** Something else than the site's standing: who looks is not known, or nothing has come yet. */
  say(text) {
    this.show("stale", text);
    this.risks.replaceChildren();
  }

  show(standing, text) {
    setAttribute(this.band, "data-standing", standing);
    setAttribute(this.use, "data-shape", standing);
    const shape = `#icon-${standing}`;
    if (this.use.getAttribute("href") !== shape) this.use.setAttribute("href", shape);
    setText(this.title, text);
  }

  /** Told to screen readers when it changes in kind, else once a minute at most: watts move every second. */
  speak(word, text, kind) {
    const said = `${word} ${kind}`;
    const now = performance.now();
    const worse = word !== "SAFE" && now - this.spokenAt > SPEAK_AGAIN_MILLISECONDS;
    if (said === this.spoken && !worse) return;
    this.spoken = said;
    this.spokenAt = now;
    setText(this.speaker, text);
  }
}
