// The dashboard: who looks, pictures as they come, and each panel's part of them.

import { get, path } from "./api.js";
import { CircuitsPanel } from "./circuits_panel.js";
import { ControlsPanel } from "./controls_panel.js";
import { tellPage } from "./dialog.js";
import { setText } from "./elements.js";
import { EssPanel } from "./ess_panel.js";
import { EventsPanel } from "./events_panel.js";
import { Figures } from "./figures.js";
import { Headline } from "./headline.js";
import { JobsPanel } from "./jobs_panel.js";
import { LedgerPanel } from "./ledger_panel.js";
import { Notices } from "./notices.js";
import { PowerPanel } from "./power_panel.js";
import { showAlerts, showFairness, showSavings, showServices, showSources } from "./side_panels.js";
import { Stream } from "./stream.js";
import { themeSwitch } from "./theme.js";

const SAVINGS_AGAIN_MILLISECONDS = 300_000;
const SAVINGS_RETRY_MILLISECONDS = 60_000;

const headline = new Headline();
const power = new PowerPanel();
const events = new EventsPanel(tellPage);
const controls = new ControlsPanel(tellPage);
const ledger = new LedgerPanel();
const circuits = new CircuitsPanel((name) => {
  power.choose(name);
  document.getElementById("power").scrollIntoView({ block: "nearest" });
});
const panels = [
  new Notices(), new Figures(), power, circuits, new EssPanel(), new JobsPanel(), events, ledger, controls,
];
const parts = [
  ...panels.map((panel) => (picture) => panel.update(picture)),
  showSources, showAlerts, showFairness, showServices,
];

let stream = null;
let newest = null;
let waiting = false;
let savingsAt = -Infinity;

/** Draw the newest picture with the next frame; pictures that come faster, or unseen, are passed over. */
function draw() {
  if (waiting || !newest) return;
  waiting = true;
  const paint = () => {
    waiting = false;
    const picture = newest;
    if (!stream || stream.stale) return; // the server answers, but what it tells does not move
    headline.update(picture);
    for (const show of parts) attempt(show, picture);
    document.body.dataset.pictures = String(Number(document.body.dataset.pictures ?? 0) + 1);
    if (performance.now() - savingsAt > SAVINGS_AGAIN_MILLISECONDS) loadSavings();
  };
  requestAnimationFrame(paint);
}

/** What one panel cannot read must not blank the others. */
function attempt(show, picture) {
  try {
    show(picture);
  } catch (error) {
    console.error(error);
  }
}

async function loadSavings() {
  savingsAt = performance.now();
  try {
    showSavings(await get(path("savings")));
  } catch (error) {
    savingsAt += SAVINGS_RETRY_MILLISECONDS - SAVINGS_AGAIN_MILLISECONDS;
    setText(document.getElementById("savings-note"), `Not known now: ${error.message}`);
  }
}

function watchAge() {
  if (!stream) return;
  if (stream.stale && stream.lastTime !== null) headline.stale(stream.ageSeconds, stream.reason);
  else if (stream.stale) sayNothingYet();
}

function sayNothingYet() {
  const why = stream.reason || "the server sends no picture yet";
  headline.say(`No news for ${Math.round(stream.ageSeconds)} s: ${why}.`);
}

/** Whose page this is; without a login the page says how to get one, and asks again now and then. */
async function begin() {
  // The stream is opened at once: most who come are logged in already.
  if (!stream) start();
  try {
    const me = await get(path("me"));
    const may = me.may ?? [];
    setText(document.getElementById("who"), me.name ? `${me.name}, ${me.role}` : me.role);
    events.mayDo(may.includes("add_event"));
    controls.mayDo(may.includes("control"));
    document.getElementById("login").hidden = true;
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      stop();
      headline.say("Nobody is logged in here");
      document.getElementById("login").hidden = false;
      setTimeout(begin, 15_000);
    } else {
      setTimeout(begin, 3000);
    }
  }
}

function stop() {
  stream.close();
  stream = null;
}

function start() {
  stream = new Stream(
    (picture) => {
      newest = picture;
      document.getElementById("login").hidden = true;
      draw();
    },
    // A stream that is refused may be a login that has ended.
    () => get(path("me")).catch((error) => {
      if (error.status === 401) document.getElementById("login").hidden = false;
    }),
  );
}

setInterval(watchAge, 1000);
// Behind another window no frame comes; what was missed is drawn at once on return.
document.addEventListener("visibilitychange", draw);

themeSwitch(document.getElementById("theme"), () => power.repaint());
begin();
