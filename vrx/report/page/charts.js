"use strict";
const MANY = 6; // entries of a legend
// A chart of points: lines, error bars, values on hover and by keyboard, zoom, a legend that hides.
class Chart {
  constructor(parent, chart) {
    this.chart = chart;
    this.hidden = new Set();
    this.at = -1; // the point that the keyboard is at
    this.root = element("div", { class: "chart" });
    this.root.append(element("h4", {}, chart.title));
    const help = "arrow keys: points; plus, minus, 0: zoom";
    this.plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `Chart: ${chart.title}; ${help}` });
    this.tip = element("div", { class: "tip", hidden: "" });
    this.spoken = element("div", { class: "aside", "aria-live": "polite" });
    this.root.append(this.plot, this.spoken, this.tools(), this.legend());
    parent.append(this.root);
    this.plot.addEventListener("pointermove", (event) => this.move(event));
    this.plot.addEventListener("pointerdown", (event) => this.press(event));
    this.plot.addEventListener("pointerup", (event) => this.release(event));
    this.plot.addEventListener("pointerleave", () => this.hover(null));
    this.plot.addEventListener("dblclick", () => this.reset());
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.reset();
    new ResizeObserver(() => this.plot.clientWidth !== this.width && this.draw()).observe(this.plot);
  }

  tools() {
    const bar = element("div", { class: "tools" });
    for (const [name, label, act] of [["+", "zoom in", () => this.zoom(0.6)], ["−", "zoom out", () => this.zoom(1 / 0.6)], ["whole", "whole chart", () => this.reset()]]) {
      const button = element("button", { type: "button", "aria-label": `${label}: ${this.chart.title}` }, name);
      button.addEventListener("click", act);
      bar.append(button);
    }
    return bar;
  }

  legend() {
    const bar = element("div", { class: "tools legend" });
    const names = [...new Map(this.chart.series.map((series) => [series.name, series])).values()];
    if (names.length === 1 && names[0].name === "ours") return bar;
    const buttons = names.map((series) => this.legendEntry(bar, series));
    if (names.length > MANY) {
      const every = element("button", { type: "button", class: "every" }, "hide or show all");
      every.addEventListener("click", () => {
        const hide = this.hidden.size === 0;
        this.hidden = new Set(hide ? names.map((series) => series.name) : []);
        for (const button of buttons) button.setAttribute("aria-pressed", String(!hide));
        this.reset();
      });
      bar.prepend(every);
    }
    return bar;
  }

  legendEntry(bar, series) {
    const button = element("button", { type: "button", "aria-pressed": "true" });
    const sample = shape(button, "svg", { width: 30, height: 12, "aria-hidden": "true" });
    this.line(sample, series, "M0 6H30", 0);
    if (series.markers) this.mark(sample, series, 15, 6);
    button.append(element("span", {}, series.name));
    button.addEventListener("click", () => {
      this.hidden[this.hidden.has(series.name) ? "delete" : "add"](series.name);
      button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
      this.reset();
    });
    bar.append(button);
    return button;
  }

  reset() {
    this.view = { x: range(this.chart, "x", this.hidden), y: range(this.chart, "y", this.hidden) };
    this.draw();
  }

  zoom(factor) {
    for (const axis of ["x", "y"]) {
      const [low, high] = this.view[axis].map((value) => this.scaled(axis, value));
      const [middle, half] = [(low + high) / 2, (factor * (high - low)) / 2];
      this.view[axis] = [middle - half, middle + half].map((value) => this.unscaled(axis, value));
    }
    this.draw();
  }

  scaled(axis, value) {
    return this.chart[axis].scale === "log2" ? Math.log2(Math.max(value, 1e-9)) : value;
  }

  unscaled(axis, value) {
    return this.chart[axis].scale === "log2" ? 2 ** value : value;
  }

  place(axis, value) {
    const [low, high] = this.view[axis].map((end) => this.scaled(axis, end));
    const share = (this.scaled(axis, value) - low) / (high - low || 1);
    return axis === "x" ? this.left + share * this.inner.x : MARGIN.top + (1 - share) * this.inner.y;
  }

  value(axis, pixel) {
    const [low, high] = this.view[axis].map((end) => this.scaled(axis, end));
    const share = axis === "x" ? (pixel - this.left) / this.inner.x : 1 - (pixel - MARGIN.top) / this.inner.y;
    return this.unscaled(axis, low + share * (high - low));
  }

  draw() {
    const { chart } = this;
    this.width = this.plot.clientWidth || 400;
    const rows = chart.y.marks.length;
    const height = rows ? 70 + 24 * rows : Math.min(420, Math.max(250, 0.55 * this.width));
    const broadest = 7 * Math.max(0, ...chart.x.marks.map((name) => name.length)) + 14;
    this.alternate = broadest * chart.x.marks.length > this.width - MARGIN.left - MARGIN.right; // names on two lines
    this.bottom = MARGIN.bottom + (this.alternate ? 15 : 0);
    const inner = height - MARGIN.top - this.bottom;
    const longest = Math.max(0, ...ticks(chart.y, this.view.y, inner).map(([, name]) => name.length));
    this.left = Math.min(this.width / 2.4, Math.max(MARGIN.left, 7 * longest + (chart.y.name ? 32 : 10)));
    this.inner = { x: this.width - this.left - MARGIN.right, y: inner };
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    svg.setAttribute("aria-hidden", "true");
    this.plot.replaceChildren(svg, this.tip);
    this.axes(svg, height);
    const id = `clip-${(Chart.count = (Chart.count ?? 0) + 1)}`;
    shape(shape(svg, "clipPath", { id }), "rect", { x: this.left - 7, y: 0, width: this.inner.x + 14, height: height - this.bottom + 7 });
    this.inside = shape(svg, "g", { "clip-path": `url(#${id})` });
    this.points = [];
    for (const series of chart.series) if (!this.hidden.has(series.name)) this.series(series);
    this.points.sort((a, b) => a.x - b.x);
    this.ring = shape(svg, "circle", { r: 9, fill: "none", stroke: "#1b1f24", "stroke-width": 2, visibility: "hidden" });
    this.box = shape(svg, "rect", { fill: "#0b5c99", "fill-opacity": 0.12, stroke: "#0b5c99", visibility: "hidden" });
  }

  axes(svg, height) {
    const xs = this.chart.series.flatMap((series) => series.points.map((point) => point[0]));
    const bottom = height - this.bottom;
    const last = [-Infinity, -Infinity]; // the ends of the lines of names
    for (const [at, name] of ticks(this.chart.x, this.view.x, this.inner.x, xs.sort((a, b) => a - b))) {
      const x = this.place("x", at);
      shape(svg, "line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom });
      const line = this.alternate ? at % 2 : 0;
      if (x - last[line] < 3.5 * name.length + 14) continue;
      last[line] = x + 3.5 * name.length;
      shape(svg, "text", { x, y: bottom + 17 + 15 * line, "text-anchor": "middle" }, name);
    }
    for (const [at, name] of ticks(this.chart.y, this.view.y, this.inner.y)) {
      const y = this.place("y", at);
      shape(svg, "line", { class: "grid", x1: this.left, x2: this.width - MARGIN.right, y1: y, y2: y });
      shape(svg, "text", { x: this.left - 8, y: y + 4, "text-anchor": "end" }, name.length > 32 ? `${name.slice(0, 31)}…` : name);
    }
    shape(svg, "line", { class: "axis", x1: this.left, x2: this.width - MARGIN.right, y1: bottom, y2: bottom });
    shape(svg, "text", { x: this.left + this.inner.x / 2, y: height - 6, "text-anchor": "middle" }, this.chart.x.name);
    if (this.chart.y.name) {
      const middle = MARGIN.top + this.inner.y / 2;
      shape(svg, "text", { x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, this.chart.y.name);
    }
  }

  colour(series) {
    return series.colour < 0 ? GREY : COLOURS[series.colour % COLOURS.length];
  }

  line(parent, series, path, width = 1.8) {
    if (!series.joined) return;
    const dash = series.colour < 0 ? "2 3" : DASHES[(series.colour + Math.floor(series.colour / COLOURS.length)) % DASHES.length];
    shape(parent, "path", { d: path, fill: "none", stroke: this.colour(series), "stroke-width": width || 1.8, "stroke-dasharray": dash, "stroke-linejoin": "round" });
  }

  mark(parent, series, x, y) {
    const fill = series.hollow ? "#fff" : this.colour(series);
    shape(parent, "path", { d: marker(Math.max(0, series.colour), x, y, 4.2), fill, stroke: this.colour(series), "stroke-width": 1.5 });
  }

  series(series) {
    const places = series.points.map(([x, y]) => [this.place("x", x), this.place("y", y)]);
    const join = series.joined === "steps" ? ([x, y]) => `H${x}V${y}` : ([x, y]) => `L${x} ${y}`;
    if (places.length > 1) this.line(this.inside, series, `M${places[0].join(" ")}${places.slice(1).map(join).join("")}`, series.markers ? 1.8 : 1.2);
    if (series.level !== null) {
      const y = this.place("y", series.level);
      shape(this.inside, "line", { x1: this.left, x2: this.width - MARGIN.right, y1: y, y2: y, stroke: this.colour(series), "stroke-width": 0.8, "stroke-dasharray": "1 3" });
    }
    series.points.forEach(([x, y, error, label], index) => {
      const [px, py] = places[index];
      if (error) {
        const [a, b] = [-error, error].map((sign) => this.place(this.chart.errors, (this.chart.errors === "x" ? x : y) + sign));
        const path = this.chart.errors === "x" ? `M${a} ${py}H${b}M${a} ${py - 4}v8M${b} ${py - 4}v8` : `M${px} ${a}V${b}M${px - 4} ${a}h8M${px - 4} ${b}h8`;
        shape(this.inside, "path", { d: path, stroke: this.colour(series), fill: "none" });
      }
      if (series.markers) this.mark(this.inside, series, px, py);
      this.points.push({ x: px, y: py, text: this.text(series, x, y, error, label) });
    });
  }

  text(series, x, y, error, label) {
    const spread = error ? ` ±${format(error)}` : "";
    const named = (axis, value) => `${axis.name}: ${axis.marks.length ? axis.marks[value] ?? "" : format(value)}`;
    const place = this.chart.y.marks.length ? `${named(this.chart.x, x)}${spread}` : `${named(this.chart.x, x)}; ${named(this.chart.y, y)}${spread}`;
    return `${series.name}${label ? `, ${label}` : ""}. ${place}`;
  }

  hover(point, aloud = false) {
    this.tip.hidden = !point;
    this.ring.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    this.ring.setAttribute("cx", point.x);
    this.ring.setAttribute("cy", point.y);
    this.tip.textContent = point.text;
    if (aloud) this.spoken.textContent = point.text;
    const left = Math.max(0, Math.min(point.x + 12, this.width - this.tip.offsetWidth - 4));
    const below = point.y + 14 + this.tip.offsetHeight < this.plot.clientHeight;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${below ? point.y + 14 : Math.max(0, point.y - 14 - this.tip.offsetHeight)}px`;
  }

  pixel(event) {
    const frame = this.plot.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  move(event) {
    const [x, y] = this.pixel(event);
    if (this.start) {
      const [a, b] = this.start;
      const attributes = { x: Math.min(a, x), y: Math.min(b, y), width: Math.abs(x - a), height: Math.abs(y - b), visibility: "visible" };
      for (const [name, value] of Object.entries(attributes)) this.box.setAttribute(name, value);
      return;
    }
    const distance = (point) => Math.hypot(point.x - x, point.y - y);
    const nearest = this.points.reduce((best, point) => (best === null || distance(point) < distance(best) ? point : best), null);
    this.hover(nearest && distance(nearest) < 40 ? nearest : null);
  }

  press(event) {
    if (event.pointerType === "mouse" && event.button === 0) this.start = this.pixel(event);
    else this.move(event);
  }

  release(event) {
    const [start, end] = [this.start, this.pixel(event)];
    this.start = null;
    this.box.setAttribute("visibility", "hidden");
    if (!start || Math.abs(start[0] - end[0]) < 8 || Math.abs(start[1] - end[1]) < 8) return;
    const ordered = (axis, index) => [this.value(axis, start[index]), this.value(axis, end[index])].sort((a, b) => a - b);
    this.view = { x: ordered("x", 0), y: ordered("y", 1) };
    this.draw();
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && this.points.length) {
      this.at = (this.at + step + this.points.length) % this.points.length;
      this.hover(this.points[this.at], true);
    } else if (event.key === "+") this.zoom(0.6);
    else if (event.key === "-") this.zoom(1 / 0.6);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.hover(null);
    else return;
    event.preventDefault();
  }
}
