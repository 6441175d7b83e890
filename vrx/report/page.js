"use strict";
// A click on a header sorts its table by that column; the second turns the order, the third gives the paper's back.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const texts = original.map((row) => key(row, column)).filter((text) => text !== "");
      const numeric = texts.length > 0 && texts.every((text) => Number.isFinite(Number(text)));
      const turns = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const turn = turns[(turns.indexOf(header.getAttribute("aria-sort")) + 1) % 3];
      headers.forEach((other) => other.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", turn);
      const sign = turn === "descending" ? -1 : 1;
      const compare = (one, other) => {
        const [a, b] = [key(one, column), key(other, column)];
        if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays at the end
        return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
      };
      body.append(...(turn === "none" ? original : [...original].sort(compare)));
    });
  });
}
