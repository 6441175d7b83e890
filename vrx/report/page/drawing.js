"use strict";
// What charts are drawn with: elements, colours, markers, ranges and ticks. Texts are never markup.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#0072B2", "#C24E00", "#007A5A", "#A8508A", "#000000", "#8F6200", "#1F7FB5"];
const DASHES = ["", "7 3", "8 3 2 3", "2 3", "10 2", "3 2", "8 3 2 3 2 3"];
const GREY = "#666666";
const MARGIN = { left: 58, right: 14, top: 10, bottom: 44 };

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  return made;
}

function shape(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const format = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(5))));

function marker(kind, x, y, size) {
  const [s, t] = [size, size * 0.9];
  return [
    `M${x - s} ${y}a${s} ${s} 0 1 0 ${2 * s} 0a${s} ${s} 0 1 0 ${-2 * s} 0`,
    `M${x - t} ${y - t}h${2 * t}v${2 * t}h${-2 * t}z`,
    `M${x} ${y - s}l${s} ${1.8 * s}h${-2 * s}z`,
    `M${x} ${y - s * 1.2}l${s} ${s * 1.2}l${-s} ${s * 1.2}l${-s} ${-s * 1.2}z`,
    `M${x} ${y + s}l${s} ${-1.8 * s}h${-2 * s}z`,
  ][kind % 5];
}

function range(chart, axis, hidden) {
  const values = [];
  for (const series of chart.series) {
    if (hidden.has(series.name)) continue;
    for (const [x, y, error] of series.points) {
      const value = axis === "x" ? x : y;
      const spread = chart.errors === axis ? error ?? 0 : 0;
      values.push(value - spread, value + spread);
    }
    if (axis === "y" && series.level !== null) values.push(series.level);
  }
  if (chart[axis].from_zero) values.push(0);
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  if (chart[axis].scale === "log2") return [low / 1.25, high * 1.25];
  const pad = chart[axis].marks.length ? 0.5 : 0.06 * (high - low || Math.abs(high) || 1);
  return [chart[axis].from_zero && low === 0 ? 0 : low - pad, high + pad];
}

function ticks(axis, [low, high], length, points) {
  if (axis.marks.length) return axis.marks.map((name, at) => [at, name]).filter(([at]) => at >= low && at <= high);
  if (axis.scale === "log2") return [...new Set(points)].filter((x) => x >= low && x <= high).map((x) => [x, format(x)]);
  const widest = (high - low) / Math.max(3, length / 130);
  const unit = 10 ** Math.floor(Math.log10(widest));
  const step = unit * [5, 2, 1].find((factor) => factor * unit <= widest * (1 + 1e-9));
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step / 1e6; at++) found.push([at * step, format(at * step)]);
  return found;
}
