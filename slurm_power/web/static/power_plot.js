// The power chart drawn with uPlot: lines, fan, windows of events, markers of starts, the moment now.

import { clock, day, isNumber, watts } from "./format.js";

const FAMILY = '-apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", "DejaVu Sans Condensed"';
const STRIP = 19;
const FONT = `12px ${FAMILY}, sans-serif`;

/** The colour that a CSS variable stands for now, as a canvas takes it. */
export function colours(...names) {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** A uPlot over columns [at, measured, limit, natural, low, middle, high,
  level]; `marks` is asked when drawn. */
export function powerPlot(element, data, marks, onCursor) {
  const ink = colours("ink", "muted", "edge", "panel", "plot-measured", "plot-fan", "plot-limit",
    "plot-level",
    "plot-natural", "plot-event", "plot-grid", "near-edge");
  const axis = { stroke: ink.muted, font: FONT, grid: { stroke: ink["plot-grid"], width: 1 },
    ticks: { stroke: ink["plot-grid"], width: 1, size: 4 } };
  const line = (label, stroke, more = {}) =>
    ({ label, stroke, width: 1.5, points: { show: false }, ...more });
  const steps = window.uPlot.paths.stepped({ align: 1 });
  return new window.uPlot({
    width: Math.max(200, element.clientWidth),
    height: Math.max(200, element.clientHeight),
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, (high || 1) * 1.12)] } },
    axes: [
      { ...axis, size: 30, space: 64, values: (_, splits) =>
        splits.map(axisTime(splits)) },
      { ...axis, size: 62, space: 42, values: (_, splits) => splits.map(axisWatts(splits)) },
    ],
    series: [
      {},
      line("measured", ink["plot-measured"], { width: 2 }),
      line("limit", ink["plot-limit"], { width: 2, paths: steps }),
      line("natural", ink["plot-natural"], { width: 1.25, dash: [2, 3] }),
      line("low", "transparent", { width: 0 }),
      line("middle", ink["plot-measured"], { dash: [6, 4] }),
      line("high", "transparent", { width: 0 }),
      line("level", ink["plot-level"], { dash: [10, 3, 2, 3], paths: steps }),
    ],
    bands: [{ series: [6, 4], fill: ink["plot-fan"] }],
    hooks: {
      drawClear: [(plot) => drawWindows(plot, marks(), ink)],
      draw: [(plot) => drawMarks(plot, marks(), ink)],
      setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
    },
  }, data, element);
}

/** Hours and minutes, with seconds where marks are closer than a minute; a day's first mark is its date. */
function axisTime(splits) {
  const seconds = splits.length > 1 && splits[1] - splits[0] < 60;
  return (at) => (clock(at, true) === "00:00:00" ? day(at).slice(5) : clock(at, seconds));
}

/** One unit for a whole axis, with as many digits as its steps need. */
function axisWatts(splits) {
  const most = Math.max(...splits.map(Math.abs), 1);
  const [unit, scale] = most < 1000 ? ["W", 1] : most < 9_999_500 ? ["kW", 1e3] : ["MW", 1e6];
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) / scale : 1;
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  return (value) => `${(value / scale).toFixed(digits)} ${unit}`;
}

function drawWindows(plot, marks, ink) {
  const { ctx, bbox } = plot;
  for (const event of marks.events) {
    const left = Math.max(bbox.left, plot.valToPos(event.from, "x", true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(event.to, "x", true));
    if (right <= left) continue;
    ctx.fillStyle = ink["plot-event"];
    // A strip, with the window's ends down to the axis: a wash over all of it would change the fan's colour.
    ctx.fillRect(left, bbox.top, right - left, STRIP * (window.devicePixelRatio || 1));
    ctx.strokeStyle = ink["near-edge"];
    ctx.lineWidth = window.devicePixelRatio || 1;
    for (const across of [left, right]) {
      if (across > bbox.left && across < bbox.left + bbox.width) {
        upright(ctx, across, bbox.top, bbox.top + bbox.height);
      }
    }
  }
}

function drawMarks(plot, marks, ink) {
  const { ctx, bbox } = plot;
  const scale = window.devicePixelRatio || 1;
  ctx.save();
  ctx.font = FONT.replace("12px", `${12 * scale}px`);
  ctx.lineWidth = scale;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  drawNow(plot, marks.at, ink, scale);
  // Labels that would lie on each other go one line lower each.
  let lowest = bbox.top + 3 * scale;
  for (const event of marks.events) {
    const left = Math.max(bbox.left, plot.valToPos(event.from, "x", true));
    if (left > bbox.left + bbox.width || plot.valToPos(event.to, "x", true) < bbox.left) continue;
    label(ctx, bbox, `event: at most ${watts(event.watts)}`, left + 4 * scale, lowest, ink);
    lowest += 16 * scale;
  }
  for (const start of marks.starts) {
    const across = plot.valToPos(start.at, "x", true);
    if (across < bbox.left || across > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = ink["near-edge"];
    ctx.setLineDash([3 * scale, 3 * scale]);
    upright(ctx, across, bbox.top, bbox.top + bbox.height);
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.moveTo(across - 6 * scale, bbox.top);
    ctx.lineTo(across + 6 * scale, bbox.top);
    ctx.lineTo(across, bbox.top + 9 * scale);
    ctx.fill();
    label(ctx, bbox, start.text, across + 8 * scale, lowest, ink);
    lowest += 16 * scale;
  }
  if (isNumber(marks.limit)) {
    const high = plot.valToPos(marks.limit, "y", true);
    label(ctx, bbox, `limit ${watts(marks.limit)}`, bbox.left + bbox.width, high - 17 * scale,
      { ...ink, ink: ink["plot-limit"] });
  }
  ctx.restore();
}

function drawNow(plot, at, ink, scale) {
  const { ctx, bbox } = plot;
  const across = plot.valToPos(at, "x", true);
  ctx.strokeStyle = ink.edge;
  upright(ctx, across, bbox.top, bbox.top + bbox.height);
  label(ctx, bbox, "now", across + 4 * scale, bbox.top + bbox.height - 17 * scale,
    { ...ink, ink: ink.muted });
}

function upright(ctx, across, from, to) {
  ctx.beginPath();
  ctx.moveTo(across, from);
  ctx.lineTo(across, to);
  ctx.stroke();
}

function label(ctx, bbox, text, left, top, ink) {
  const width = ctx.measureText(text).width;
  const place = Math.max(bbox.left, Math.min(left, bbox.left + bbox.width - width - 4));
  ctx.fillStyle = ink.panel;
  ctx.globalAlpha = 0.8;
  ctx.fillRect(place - 2, top, width + 4, 15 * (window.devicePixelRatio || 1));
  ctx.globalAlpha = 1;
  ctx.fillStyle = ink.ink;
  ctx.fillText(text, place, top + 1);
}
