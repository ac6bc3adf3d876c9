// The two deeds on grid events, each with a dialog that says first what will happen.

import { path, send } from "./api.js";
import { askFirst, field } from "./dialog.js";
import { make } from "./elements.js";
import { clock, duration, secondsOf, watts } from "./format.js";

const LEVELS = { limit_watts: "at most (kW)", cut_ratio: "a cut of (% of the baseline)",
  cut_watts: "a cut of (kW)" };

export function createEvent(picture, done) {
  const number = (name, value, more = {}) =>
    make("input", { type: "number", name, value, min: 0, step: "any", required: true, ...more });
  const options = (values) => Object.entries(values).map(([value, text]) => make("option", { value }, text));
  const circuit = make("select", { name: "circuit" },
    picture.circuits.map((one) => make("option", { value: one.name }, one.name)));
  circuit.value = picture.standing.circuit;
  const kind = make("select", { name: "kind" }, options(LEVELS));
  const level = number("level", ((picture.standing.limit_watts * 0.7) / 1000).toFixed(1));
  const start = number("start", 10);
  const minutes = number("minutes", 60, { min: 1 });
  const ramp = number("ramp", "", { required: false });
  const commitment = make("select", { name: "commitment" },
    options({ must: "must be met", "best-effort": "best effort" }));
  const asked = () => ({
    circuit: circuit.value,
    [kind.value]: Number(level.value) * (kind.value === "cut_ratio" ? 0.01 : 1000),
    start_in_seconds: Number(start.value) * 60,
    duration_seconds: Number(minutes.value) * 60,
    commitment: commitment.value,
    ...(ramp.value === "" ? {} : { ramp_seconds: Number(ramp.value) * 60 }),
  });
  askFirst({
    title: "New grid event",
    deed: "Create event",
    fields: [
      make("div", { class: "pair" },
        field("Circuit", circuit), field("Commitment", commitment),
        field("Level is", kind), field("Level", level),
        field("Starts in (minutes)", start), field("Lasts (minutes)", minutes),
        field("Slides down over (minutes; empty: as the policy says)", ramp),
      ),
    ],
    says: () => eventSays(asked(), picture),
    act: async (reason) => {
      const made = await send("POST", path("events"), { ...asked(), reason });
      const short = made.shortfall
        ? ` As things stand ${watts(made.shortfall.watts)} will be missing: ${made.shortfall.reason}` : "";
      const level = `at most ${watts(made.limit_watts)} on ${circuit.value}`;
      return `Event ${made.event_id ?? ""} is set: ${level}.${short}`;
    },
    done,
  });
}

/** What an event will bring, in sentences. */
function eventSays(asked, picture) {
  const at = secondsOf(picture.at) + asked.start_in_seconds;
  const row = picture.circuits.find((circuit) => circuit.name === asked.circuit);
  const level = "limit_watts" in asked ? `to at most ${watts(asked.limit_watts)}`
    : "cut_watts" in asked ? `to ${watts(asked.cut_watts)} below its baseline`
      : `to ${(100 - asked.cut_ratio * 100).toFixed(0)} % of its baseline`;
  const said = [
    `From ${clock(at)} for ${duration(asked.duration_seconds)}, ${asked.circuit} is brought ${level}.`,
    `It draws ${watts(row?.watts)} of ${watts(row?.limit_watts)} now.`,
    "Batteries discharge, GPUs are capped and jobs held, the cheapest first, each job within its flex class.",
    "It ends by itself and can be cancelled at any time.",
  ];
  if (picture.mode !== "control") {
    said.push("Control is off: the event is written down, and nothing is done for it.");
  }
  return said;
}

export function cancelEvent(event, done) {
  const recover = make("input", { type: "checkbox", name: "recover", checked: event.starts_in_seconds <= 0 });
  askFirst({
    title: `Cancel event ${event.event_id}`,
    deed: "Cancel this event",
    fields: event.starts_in_seconds <= 0 ? [make("label", { class: "tick" }, recover,
      "Let the load come back slowly, as after its end")] : [],
    says: () => [
      `${event.circuit} need no longer stay below ${watts(event.limit_watts)}.`,
      recover.checked && event.starts_in_seconds <= 0
        ? "The limit rises over the recovery time; held jobs start again by and by."
        : "Its limit is gone at once; caps and holds made for it alone are released in the next seconds.",
      "Who has promised this reduction to a utility has to tell them.",
    ],
    act: async (reason) => {
      await send("DELETE", path("events", event.event_id),
        { reason, recover: recover.checked && event.starts_in_seconds <= 0 });
      return `Event ${event.event_id} is cancelled.`;
    },
    done,
  });
}
