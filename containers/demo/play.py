"""Play the story on a stage: submit, pass grid events on, watch, and wait until all is back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from containers.demo.stage import Stage
from containers.demo.story import ADMIN_CAP_WATTS, ADMIN_CAPPED_GPU, BATTERY_SOC_RATIO, SUBMISSIONS
from slurm_power.forecast.messages import forecast_from
from slurm_power.model.forecast import CircuitForecast, Reach

BEAT_SECONDS = 1.0
LONGEST_SECONDS = 300.0
RESTORE_SECONDS = 30.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@dataclass(slots=True)
class Course:
    """What has happened so far. ``history`` are the plant's true 1-s means, ``limits`` what held then."""

    began_unix_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    limits: list[tuple[float, float]] = field(default_factory=list)
    submitted: dict[str, str] = field(default_factory=dict)
    ended: dict[str, dict[str, str]] = field(default_factory=dict)
    news: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    unrestored: list[str] = field(default_factory=list)
    gpu_caps_before: dict[str, list[float]] = field(default_factory=dict)
    forecasts: list[CircuitForecast] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a line for the watchers."""
        self.news.append(text)


class Play:
    """One performance. ``watch`` is called after each beat."""

    def __init__(self, stage: Stage, watch: Callable[[Course], None]) -> None:
        self.stage = stage
        self.watch = watch
        self.course = Course()
        self._seen_events = 0

    def perform(self) -> Course:
        """Play to the end; the course tells what came of it."""
        course = self.course
        self.stage.plant(op="fault", target=ADMIN_CAPPED_GPU, fault="foreign_limit", value=ADMIN_CAP_WATTS)
        self.stage.plant(op="set_soc", soc_ratio=BATTERY_SOC_RATIO)
        course.gpu_caps_before = self._gpu_caps()
        self.stage.plant(op="start_scenario")
        began = time.monotonic()
        course.began_unix_seconds = time.time()
        waiting = list(SUBMISSIONS)
        beat = began
        while time.monotonic() - began < LONGEST_SECONDS:
            while waiting and time.monotonic() - began >= waiting[0].at_seconds:
                act = waiting.pop(0)
                job_id = self.stage.run(act.arguments(), user=act.user).strip().split(";")[0]
                course.submitted[job_id] = act.name
                course.say(f"{act.user} submits {act.name} (job {job_id}, {act.flex}): {act.story}")
            self._pass_events_on()
            self._look()
            self._find_ended()
            self.watch(course)
            if not waiting and len(course.ended) == len(course.submitted):
                break
            beat += BEAT_SECONDS
            time.sleep(max(0.0, beat - time.monotonic()))
        self._await_restored()
        return course

    def _look(self) -> None:
        """Add the plant's new seconds, each with the limit that held in it."""
        course = self.course
        course.status = self.stage.status()
        self._look_ahead()
        known = course.history[-1]["unix_seconds"] if course.history else course.began_unix_seconds
        missing = max(2, int(time.time() - known) + 3)
        limit_watts = _grid(course.status)["limit_watts"]
        for record in self.stage.plant(op="history", seconds=missing)["history"]:
            if record["unix_seconds"] > known:
                course.history.append(record)
                course.limits.append((record["unix_seconds"], limit_watts))

    def _look_ahead(self) -> None:
        """Keep each forecast of the next minutes as it was given, to be held against what came."""
        near = self.stage.forecast()["forecasts"][Reach.NEAR.value]
        if near is None:
            return
        forecasts = self.course.forecasts
        if not forecasts or near["issued_seconds"] > forecasts[-1].issued_seconds:
            forecasts.append(forecast_from(near))

    def _pass_events_on(self) -> None:
        """Give the utility's events to the controller, as the site's operator would."""
        found = self.stage.plant(op="events", after_sequence=self._seen_events)["events"]
        for event in found:
            self._seen_events = event["sequence"]
            self.stage.run(
                [
                    "slurm-power",
                    "event",
                    event["circuit"],
                    f"--limit-watts={event['limit_watts']:g}",
                    f"--in={event['start_in_seconds']:g}s",
                    f"--for={event['duration_seconds']:g}s",
                    f"--reason={event['reason']}",
                ]
            )
            self.course.say(f"grid event: {event['reason']} ({event['limit_watts'] / 1000:g} kW)")

    def _find_ended(self) -> None:
        course = self.course
        open_jobs = [job_id for job_id in course.submitted if job_id not in course.ended]
        if not open_jobs:
            return
        for line in self.stage.run(["scontrol", "-o", "show", "job"]).splitlines():
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            job_id = fields.get("JobId", "")
            if job_id in open_jobs and fields.get("JobState") in ENDED:
                course.ended[job_id] = fields
                course.say(f"{course.submitted[job_id]} (job {job_id}) has ended: {fields['JobState']}")

    def _gpu_caps(self) -> dict[str, list[float]]:
        truth = self.stage.plant(op="truth")["truth"]
        return {
            node: [gpu["limit_requested_watts"] for gpu in found["gpus"]]
            for node, found in truth["nodes"].items()
        }

    def _await_restored(self) -> None:
        """Wait until every cap, hold and setpoint is back; what is not after a while stays listed."""
        deadline = time.monotonic() + RESTORE_SECONDS
        while True:
            self._look()
            self.course.unrestored = self._unrestored()
            self.watch(self.course)
            if not self.course.unrestored or time.monotonic() > deadline:
                return
            time.sleep(0.5)

    def _unrestored(self) -> list[str]:
        found = []
        caps = self._gpu_caps()
        for node, before in self.course.gpu_caps_before.items():
            for slot, (was, now) in enumerate(zip(before, caps[node], strict=True)):
                if was != now:
                    found.append(f"GPU {slot} of {node}: cap {now:g} W, was {was:g} W")
        ess = self.stage.plant(op="truth")["truth"]["ess"]
        if ess["enabled"]:
            found.append(f"battery: setpoint {ess['setpoint_watts']:g} W still enabled")
        status = self.course.status
        found += [f"lease {lease['lease_id']} is {lease['state']}" for lease in status["leases"]]
        found += [
            f"job {job['job_id']} is still held" for job in status["jobs"] if job["hold_ends_in_seconds"]
        ]
        return found


def _grid(status: dict[str, Any]) -> dict[str, Any]:
    """The grid connection's row of a status."""
    return next(circuit for circuit in status["circuits"] if circuit["parent"] is None)
