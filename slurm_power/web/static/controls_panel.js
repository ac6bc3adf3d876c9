// What an operator may do to the whole site: pause control, release everything, set weights.

import { get, path, send } from "./api.js";
import { askFirst, field } from "./dialog.js";
import { make, setText } from "./elements.js";
import { clock, duration, isNumber, plural, secondsOf, words } from "./format.js";

export class ControlsPanel {
  constructor(done) {
    this.done = done;
    this.panel = document.getElementById("controls");
    this.pauseButton = document.getElementById("control-pause");
    this.resumeButton = document.getElementById("control-resume");
    this.pauseButton.addEventListener("click", () => this.pause());
    this.resumeButton.addEventListener("click", () => this.resume());
    document.getElementById("control-release").addEventListener("click", () => this.release());
    document.getElementById("control-weights").addEventListener("click", () => this.setWeights());
  }

  mayDo(yes) {
    this.panel.hidden = !yes;
  }

  update(picture) {
    this.picture = picture;
    const on = picture.mode === "control";
    this.pauseButton.hidden = !on;
    this.resumeButton.hidden = on;
    const until = secondsOf(picture.paused_until);
    setText(document.getElementById("control-state"), on ? "Control is on." : until === null
      ? "Control is off." : `Control is paused until ${clock(until)}.`);
  }

  touched() {
    const { capped = 0, held = 0, paused = 0 } = this.picture.job_counts ?? {};
    const leases = plural(this.picture.leases?.count ?? 0, "lease");
    return `Now ${plural(capped, "job")} capped, ${held} held, ${paused} paused; ${leases} on GPUs.`;
  }

  pause() {
    const minutes = make("input", { type: "number", min: 1, max: 44_640, value: 30, step: 1,
      name: "minutes" });
    askFirst({
      title: "Pause control",
      deed: "Pause",
      fields: [field("For (minutes)", minutes)],
      says: () => [
        `For ${duration(Number(minutes.value) * 60)} nothing is done: no cap, no hold, no discharge.`,
        "Then it goes on by itself.",
        "Meanwhile no limit is held but by what holds it without us: static caps of nodes, breakers.",
        this.touched(),
      ],
      act: async (reason) => {
        await send("POST", path("control"), { enabled: false, for_seconds: Number(minutes.value) * 60,
          reason });
        return `Control is paused for ${duration(Number(minutes.value) * 60)}.`;
      },
      done: this.done,
    });
  }

  resume() {
    askFirst({
      title: "Resume control",
      deed: "Resume",
      says: () => ["Limits are held again from the next cycle on: batteries, caps and holds may move."],
      act: async (reason) => {
        await send("POST", path("control"), { enabled: true, reason });
        return "Control is on again.";
      },
      done: this.done,
    });
  }

  release() {
    askFirst({
      title: "Release all",
      deed: "Release all",
      says: () => [
        "Every cap, hold, pause and setpoint that is not needed for safety is given back now.",
        "While a limit asks for them they are set again a second later; to prevent that pause control first.",
        this.touched(),
      ],
      act: async (reason) => {
        const answer = await send("POST", path("release"), { reason });
        const counts = Object.entries(answer.released
          ?? {}).filter((one) => one[1]).map(([name, count]) => `${count} ${words(name)}`);
        const kept = answer.kept_for_safety_count ? ` ${answer.kept_for_safety_count} stay for safety.` : "";
        return `Released: ${counts.join(", ") || "nothing was held"}.${kept}`;
      },
      done: this.done,
    });
  }

  setWeights() {
    const before = this.picture.weights ?? {};
    const numbers = Object.entries(before).filter((one) => isNumber(one[1]));
    const inputs = numbers.map(([name, value]) => ({
      name,
      was: String(value),
      input: make("input", { type: "number", step: "any", value, name }),
    }));
    const site = make("input", { type: "checkbox", name: "site" });
    const changed = () => Object.fromEntries(inputs.filter((one) =>
      one.input.value !== one.was && one.input.value !== "").map((one) =>
        [one.name, Number(one.input.value)]));
    askFirst({
      title: "Weights of the policy",
      deed: "Set weights",
      fields: [
        make("div", { class: "pair" }, inputs.map((one) => field(words(one.name), one.input))),
        make("label", { class: "tick" }, site, "Take all overrides back: the weights of site.toml"),
      ],
      says: () => {
        if (site.checked) return ["All weights are those of site.toml again."];
        const lines = inputs.filter((one) => one.input.value !== one.was).map((one) =>
          `${words(one.name)}: ${one.was} becomes ${one.input.value || one.was}.`);
        return lines.length ? [...lines,
          "They hold from the next plan on, over restarts, until they are taken back."]
          : ["Nothing is changed yet."];
      },
      act: async (reason) => {
        const none = !site.checked && !Object.keys(changed()).length;
        if (none) throw new Error("No weight is changed: change one, or cancel.");
        // What is set takes the place of all that was set before: that has to be sent along.
        const earlier = (await get(path("policy"))).weights_overridden?.weights ?? {};
        const weights = site.checked ? null : { ...earlier, ...changed() };
        await send("PUT", path("weights"), { weights, reason });
        return site.checked ? "The weights are those of site.toml." : "The weights are set.";
      },
      done: this.done,
    });
  }
}
