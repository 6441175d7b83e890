"use strict";
// A click on a header sorts its table by that column, a second click reverses the order, a third restores the original.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const texts = original.map((row) => key(row, column)).filter((text) => text !== "");
      const numeric = texts.length > 0 && texts.every((text) => Number.isFinite(Number(text)));
      const orders = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const order = orders[(orders.indexOf(header.getAttribute("aria-sort")) + 1) % 3];
      headers.forEach((other) => other.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const compare = (first, second) => {
        const [a, b] = [key(first, column), key(second, column)];
        if (a === "" || b === "") return (a === "") - (b === ""); // missing values stay at the end
        return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
      };
      body.append(...(order === "none" ? original : [...original].sort(compare)));
    });
  });
}

// The filters hide the rows of other models, selectors and seeds in all tables; rows of no run, such as chance, stay.
const form = document.getElementById("filters");
const rows = [...document.querySelectorAll("table.sortable tbody tr[data-model]")];

function applyFilters() {
  const wanted = new FormData(form);
  const text = wanted.get("text").toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits = (name) => !wanted.get(name) || row.dataset[name].split("\n").includes(wanted.get(name));
    row.hidden = !(fits("model") && fits("selector") && fits("seed") && row.textContent.toLowerCase().includes(text));
    shown += !row.hidden;
  }
  form.querySelector("output").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
}
form.addEventListener("input", applyFilters);
form.addEventListener("reset", () => setTimeout(applyFilters));
form.addEventListener("submit", (event) => event.preventDefault());
