"use strict";
// Two runs question by question: counts of all questions by type, and some questions with picture and both answers.
const OUTCOMES = ["gained", "lost", "both wrong", "both right"];

function outcome(first, second) {
  const right = (score) => Number.parseInt(score, 36) / 35 >= 0.5;
  if (right(first)) return right(second) ? "both right" : "lost";
  return right(second) ? "gained" : "both wrong";
}

function chooser(parent, name, options) {
  const label = element("label", {}, name);
  const select = element("select");
  for (const [value, text] of options) select.append(new Option(text, value));
  label.append(select);
  parent.append(label);
  return select;
}

function compareRuns(root, data) {
  const choice = element("div", { class: "choice" });
  const runs = data.runs.map((run) => [run.number, run.name]);
  const first = chooser(choice, "first run", runs);
  const second = chooser(choice, "second run", runs);
  const number = (run) => Math.max(0, data.runs.findIndex((each) => each.number === run));
  [first.selectedIndex, second.selectedIndex] = data.start.map(number);
  const benchmark = chooser(choice, "benchmark", data.benchmarks.map((each, number) => [number, each.name]));
  const kind = chooser(choice, "question type", []);
  const wanted = chooser(choice, "show", ["all", ...OUTCOMES].map((each) => [each, each]));
  const counts = element("table", { class: "stacks", role: "table", "aria-label": "Questions gained and lost" });
  const said = element("p", { class: "notes", "aria-live": "polite" });
  const cards = element("ul", { class: "cards" });
  root.append(choice, counts, said, cards);

  function typesOf(entry) {
    kind.replaceChildren(new Option("all", ""));
    entry.types.forEach((name, number) => entry.types.length > 1 && kind.append(new Option(name || "without a type", number)));
  }

  function countTable(entry, a, b) {
    const rows = new Map([["all", []]]);
    [...a].forEach((score, index) => {
      const name = entry.type.length ? entry.types[entry.type[index]] || "without a type" : "all";
      for (const row of new Set(["all", name])) rows.set(row, [...(rows.get(row) ?? []), [score, b[index]]]);
    });
    const names = ["questions", "first (%)", "second (%)", ...OUTCOMES];
    const group = (name) => counts.appendChild(element(name, { role: "rowgroup" }));
    const line = (parent) => parent.appendChild(element("tr", { role: "row" }));
    const head = line(group("thead"));
    for (const name of ["type", ...names]) head.append(element("th", { scope: "col", role: "columnheader", class: name === "type" ? "text" : "" }, name));
    const body = group("tbody");
    for (const [name, pairs] of rows) {
      const mean = (side) => (pairs.reduce((sum, pair) => sum + Number.parseInt(pair[side], 36), 0) / 0.35 / pairs.length).toFixed(1);
      const numbers = OUTCOMES.map((each) => pairs.filter((pair) => outcome(...pair) === each).length);
      const row = line(body);
      row.append(element("th", { scope: "row", role: "rowheader" }, name));
      [pairs.length, mean(0), mean(1), ...numbers].forEach((value, at) => row.append(element("td", { role: "cell", "data-label": names[at] }, String(value))));
    }
  }

  function card(entry, shown, a, b) {
    const item = element("li");
    if (shown.picture >= 0) {
      item.append(element("img", { src: data.pictures[shown.picture], alt: `picture of question ${shown.id}`, loading: "lazy" }));
    }
    const result = outcome(a[shown.index], b[shown.index]);
    item.append(element("p", {}, shown.prompt || `question ${shown.id}`), element("p", { class: "notes" }, `${result}${entry.types.length > 1 ? `; ${entry.types[entry.type[shown.index]]}` : ""}`));
    const list = element("dl");
    const answer = (name, run, score) => {
      const rating = Number.parseInt(score, 36) / 35;
      list.append(element("dt", {}, name), element("dd", { class: rating >= 0.5 ? "right" : "wrong" }, `${shown.texts[shown.answers[run]] || "(empty)"}${rating > 0 && rating < 1 ? ` (${rating.toFixed(2)})` : ""}`));
    };
    answer("first", first.value, a[shown.index]);
    answer("second", second.value, b[shown.index]);
    list.append(element("dt", {}, "correct"), element("dd", {}, shown.reference));
    item.append(list);
    return item;
  }

  function show() {
    const entry = data.benchmarks[benchmark.value];
    const [a, b] = [entry.scores[first.value], entry.scores[second.value]];
    cards.replaceChildren();
    counts.replaceChildren();
    counts.hidden = !(a && b);
    if (!a || !b) {
      said.textContent = "One of these runs has no answers to these questions.";
      return;
    }
    countTable(entry, a, b);
    const fits = (each) =>
      (kind.value === "" || entry.type[each.index] === Number(kind.value)) &&
      (wanted.value === "all" || outcome(a[each.index], b[each.index]) === wanted.value);
    const rank = (each) => OUTCOMES.indexOf(outcome(a[each.index], b[each.index]));
    const found = entry.shown.filter(fits).sort((one, other) => rank(one) - rank(other));
    said.textContent = `${found.length} of the ${entry.shown.length} questions that the page has with their answers`;
    cards.append(...found.map((each) => card(entry, each, a, b)));
  }

  benchmark.addEventListener("change", () => typesOf(data.benchmarks[benchmark.value]));
  for (const select of [first, second, benchmark, kind, wanted]) select.addEventListener("change", show);
  typesOf(data.benchmarks[0]);
  show();
}

const comparison = document.querySelector("#compare");
if (comparison) compareRuns(comparison, JSON.parse(comparison.querySelector("script").textContent));
