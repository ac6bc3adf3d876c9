// Numbers and times as people read them. What is unknown is a dash, never a zero.

export const UNKNOWN = "\u2013";

/** 950 W, 16.3 kW, 12.34 MW. */
export function watts(value) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size < 999.5) return `${Math.round(value) + 0} W`;
  if (size < 9_999_500) return `${(value / 1e3).toFixed(1)} kW`;
  return `${(value / 1e6).toFixed(2)} MW`;
}

export function signedWatts(value) {
  return isNumber(value) && value >= 0 ? `+${watts(value)}` : watts(value);
}

export function percent(ratio, digits = 0) {
  return isNumber(ratio) ? `${(ratio * 100).toFixed(digits)} %` : UNKNOWN;
}

export function number(value, digits = 0) {
  return isNumber(value) ? value.toFixed(digits) : UNKNOWN;
}

export function kwh(value) {
  if (!isNumber(value)) return UNKNOWN;
  return Math.abs(value) < 9_999.5 ? `${value.toFixed(1)} kWh` : `${(value / 1e3).toFixed(1)} MWh`;
}

/** 45 s, 12 min, 3 h 05 min, 2 d 4 h. */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  if (whole < 172_800) {
    const minutes = Math.round(whole / 60);
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }
  const hours = Math.round(whole / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The time of a moment in seconds since the epoch, in the reader's own zone. */
export function clock(seconds, withSeconds = false) {
  if (!isNumber(seconds)) return UNKNOWN;
  const at = new Date(seconds * 1000);
  const pieces = [at.getHours(), at.getMinutes(), ...(withSeconds ? [at.getSeconds()] : [])];
  return pieces.map((piece) => String(piece).padStart(2, "0")).join(":");
}

export function day(seconds) {
  const at = new Date(seconds * 1000);
  const pieces = [at.getFullYear(), at.getMonth() + 1, at.getDate()];
  return pieces.map((piece) => String(piece).padStart(2, "0")).join("-");
}

/** Seconds since the epoch of an ISO time, null for what is none. */
export function secondsOf(text) {
  const milliseconds = typeof text === "string" ? Date.parse(text) : Number.NaN;
  return Number.isNaN(milliseconds) ? null : milliseconds / 1000;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A word of the server as a person writes it: `massive_start` is massive start. */
export function words(text) {
  return String(text ?? "").replaceAll("_", " ");
}
