"use strict";
// Heat maps, a row a sample and a column a layer; and the start of all charts of the page.
const CIVIDIS = [[0, 32, 77], [53, 70, 107], [92, 97, 110], [127, 124, 117], [165, 156, 116], [209, 193, 93], [255, 234, 70]];

function shade(share) {
  const at = Math.max(0, Math.min(1, share)) * (CIVIDIS.length - 1);
  const [low, part] = [CIVIDIS[Math.floor(at)], at - Math.floor(at)];
  const high = CIVIDIS[Math.ceil(at)];
  return low.map((value, channel) => Math.round(value + part * (high[channel] - value)));
}

class HeatMap {
  constructor(parent, chart) {
    this.chart = chart;
    this.at = [0, 0];
    const root = element("div", { class: "chart" });
    root.append(element("h4", {}, `${chart.title}: layers from left to right, a row a sample (${chart.groups.map(([name, number]) => `${name}: ${number}`).join(", ")})`));
    this.plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `Heat map: ${chart.title}; arrow keys: values` });
    const canvas = element("canvas", { "aria-hidden": "true" });
    [canvas.width, canvas.height] = [chart.values[0].length, chart.values.length];
    canvas.style.height = `${Math.max(160, Math.min(480, 3 * canvas.height))}px`;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    chart.values.flat().forEach((value, cell) => {
      if (value === null) return; // stays transparent
      image.data.set([...shade((value - chart.low) / (chart.high - chart.low || 1)), 255], 4 * cell);
    });
    context.putImageData(image, 0, 0);
    this.tip = element("div", { class: "tip", hidden: "" });
    this.spoken = element("div", { class: "aside", "aria-live": "polite" });
    this.plot.append(canvas, this.tip);
    root.append(this.plot, this.spoken, element("p", { class: "notes" }, `dark: ${format(chart.low)} or less; light: ${format(chart.high)} or more`));
    parent.append(root);
    this.plot.addEventListener("pointermove", (event) => {
      const frame = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - frame.left) / frame.width) * canvas.width);
      this.show(Math.floor(((event.clientY - frame.top) / frame.height) * canvas.height), column);
    });
    this.plot.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.show(this.at[0] + step[0], this.at[1] + step[1]);
      this.spoken.textContent = this.tip.textContent;
    });
  }

  show(row, column) {
    const { values, rows } = this.chart;
    if (values[row]?.[column] === undefined) return;
    this.at = [row, column];
    this.tip.hidden = false;
    const value = values[row][column];
    this.tip.textContent = `${rows[row]}, layer ${column}: ${value === null ? "no value" : format(value)}`;
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    this.tip.style.left = `${Math.min((column / values[row].length) * width, width - this.tip.offsetWidth)}px`;
    this.tip.style.top = `${Math.max(0, (row / values.length) * height - 34)}px`;
  }
}

function drawCharts(figure, charts) {
  const draw = (chart) => (chart.kind === "heat map" ? new HeatMap(figure, chart) : new Chart(figure, chart));
  if (!figure.classList.contains("one-of")) {
    charts.forEach(draw);
    return;
  }
  const place = element("div");
  const select = element("select");
  charts.forEach((chart, number) => select.append(new Option(chart.title, number)));
  const label = element("label", {}, "show ");
  label.append(select);
  figure.prepend(label, place);
  const show = () => {
    place.replaceChildren();
    new Chart(place, charts[select.value]);
  };
  select.addEventListener("change", show);
  show();
}

for (const figure of document.querySelectorAll("figure.charts")) {
  const data = figure.querySelector("script[type='application/json']");
  if (data) drawCharts(figure, JSON.parse(data.textContent));
}
