// From history, live points and forecast to the columns of the power chart, and to words that say the same.

import { clock, duration, isNumber, plural, signedWatts, watts } from "./format.js";

export const RANGES = {
  hour: { name: "1 h", seconds: 3600, ahead: 3600, reach: "near", again: 300, fine: 1800 },
  day: { name: "24 h", seconds: 86_400, ahead: 86_400, reach: "far", again: 600 },
  week: { name: "7 d", seconds: 604_800, ahead: 172_800, reach: "far", again: 1800 },
};
const MOST_DRAWN = 2000;
const NAMES = ["at", "measured", "limit", "natural", "low", "middle", "high", "level"];

/**
 * Columns on one axis of time, in seconds: what was until now, then what is expected.
 * `history` has arrays of one length,
   `forecast` is the interface's answer or null, `now` {at, watts, limit, level, events}.
 */
export function columns(range, history, points, forecast, now) {
  const rows = [];
  const span = RANGES[range];
  const from = now.at - span.seconds;
  const spacing = span.seconds / MOST_DRAWN;
  past(rows, history, from);
  for (const point of points) {
    const last = rows.at(-1);
    if (point.at < from || (last && point.at < last.at + spacing * 0.9)) continue;
    rows.push({ at: point.at, measured: point.watts, limit: point.limit });
  }
  if (!rows.length || now.at > rows.at(-1).at) rows.push({ at: now.at, measured: now.watts,
    limit: now.limit });
  const first = rows.at(-1);
  if (isNumber(now.level)) first.level = now.level;
  ahead(rows, range, forecast, now, first);
  return NAMES.map((name) => rows.map((row) => row[name] ?? null));
}

/** One history of two: the coarse one until the fine one begins. */
export function joined(coarse, fine) {
  const begins = fine.at_seconds[0] ?? Infinity;
  const kept = coarse.at_seconds.filter((at) => at < begins - (coarse.step_seconds ?? 0)).length;
  const found = {};
  for (const name of ["at_seconds", "watts", "limit_watts", "natural_watts"]) {
    found[name] = [...(coarse[name] ?? []).slice(0, kept), ...(fine[name] ?? [])];
  }
  return found;
}

function past(rows, history, from) {
  const at = history?.at_seconds ?? [];
  let usual = at.length > 1 ? at[1] - at[0] : 60;
  for (let place = 0; place < at.length; place += 1) {
    if (at[place] < from) continue;
    const last = rows.at(-1);
    // A hole in the history is a hole in the line.
    const step = last ? at[place] - last.at : usual;
    if (step > Math.max(5 * usual, 15)) rows.push({ at: last.at + usual });
    else usual = step;
    rows.push({
      at: at[place],
      measured: history.watts?.[place],
      limit: history.limit_watts?.[place],
      natural: history.natural_watts?.[place],
    });
  }
}

function ahead(rows, range, forecast, now, first) {
  const { reach, ahead: most } = RANGES[range];
  const found = forecast?.forecasts?.[reach];
  if (!found) return;
  const limits = forecast.supply?.[reach]?.limit_watts ?? [];
  let before = { low: now.watts, middle: now.watts, high: now.watts };
  if (isNumber(now.watts)) Object.assign(first, before);
  for (let step = 0; step < found.p50_watts.length; step += 1) {
    const start = found.issued_seconds + step * found.step_seconds;
    const next = { low: found.p10_watts[step], middle: found.p50_watts[step], high: found.p90_watts[step] };
    const known = isNumber(limits[step]) ? limits[step] : now.limit;
    const limit = Math.min(known, ...eventLimits(now.events, start));
    const row = { limit, level: now.level };
    if (start > now.at + most) break;
    // A value is the mean of its step and stands in its middle; the limit holds from where the step begins.
    if (start > rows.at(-1).at) rows.push({ at: start, ...between(before, next), ...row });
    const middle = start + found.step_seconds / 2;
    if (middle > rows.at(-1).at) {
      rows.push({ at: middle, ...next, ...row });
      before = next;
    }
  }
}

/** Events may be newer than the forecast that the limits ahead came with. */
function eventLimits(events, at) {
  return (events ?? []).filter((event) => event.from <= at && at < event.to).map((event) => event.watts);
}

function between(one, other) {
  const mean = (name) => (isNumber(one[name]) ? (one[name] + other[name]) / 2 : other[name]);
  return { low: mean("low"), middle: mean("middle"), high: mean("high") };
}

/** The chart in sentences: now, the highest, what is expected, and what is due. */
export function sentences(range, data, marks, now, circuit) {
  const [at, measured, , , low, middle, high] = data;
  const said = [];
  const top = largest(measured, (place) => at[place] <= now.at);
  const names = { hour: "the last hour", day: "the last 24 h", week: "the last 7 days" };
  said.push(`${circuit} draws ${watts(now.watts)} of ${watts(now.limit)}.`);
  if (top !== null) said.push(`Highest in ${names[range]}: ${watts(measured[top])} at ${clock(at[top])}.`);
  const peak = largest(high, (place) => at[place] > now.at);
  if (peak !== null) {
    const floor = Math.min(...low.filter((value, place) => isNumber(value) && at[place] > now.at));
    const most = largest(middle, (place) => at[place] > now.at);
    const span = duration(at.at(-1) - now.at);
    const fan = `Expected without us in the next ${span}: ${watts(floor)} to ${watts(high[peak])}`;
    said.push(`${fan}, most likely up to ${watts(middle[most])} at ${clock(at[most])}.`);
  } else {
    said.push("There is no forecast of it.");
  }
  for (const event of marks.events) said.push(eventSentence(event, now));
  return said;
}

function eventSentence(event, now) {
  const running = event.from <= now.at;
  const when = running ? `until ${clock(event.to)}` : `from ${clock(event.from)} to ${clock(event.to)}`;
  return `Grid event ${when}: at most ${watts(event.watts)}.`;
}

export function startSentence(start, circuit) {
  const what = start.name ? `${start.name} (job ${start.job_id}, ${start.user})` : "a job";
  const step = start.step_watts?.[circuit];
  const when = isNumber(start.lead_seconds) ? `in ${duration(start.lead_seconds)}` : "at an unknown time";
  const watt = isNumber(step) ? `${signedWatts(step)}, ` : "";
  const from = start.known_from ? `; known from ${start.known_from}` : "";
  const kind = start.massive ? "Massive start" : "Start";
  return `${kind} ${when}: ${what}, ${watt}${plural(start.gpu_count, "GPU")}${from}`;
}

function largest(values, counts) {
  let found = null;
  values.forEach((value, place) => {
    if (isNumber(value) && counts(place) && (found === null || value > values[found])) found = place;
  });
  return found;
}

/** Rows for the table beside the chart: evenly spread moments, the last one included. */
export function tableRows(data, most = 13) {
  const last = data[0].length - 1;
  const step = Math.max(1, Math.ceil(last / (most - 1)));
  const rows = [];
  for (let place = last; place >= 0; place -= step) rows.push(data.map((column) => column[place]));
  return rows.reverse();
}
