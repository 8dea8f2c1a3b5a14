"use strict";
// Sorting of tables by a column: by value where cells carry one, else by text; what is missing stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], order = [...body.rows];
  const missing = cell => (cell.classList.contains("number") ? cell.dataset.value === undefined : cell.textContent.trim() === "-");
  const compare = (one, other) => one.dataset.value !== undefined
    ? Number(one.dataset.value) - Number(other.dataset.value)
    : one.textContent.localeCompare(other.textContent, undefined, { numeric: true, sensitivity: "base" });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.title = "sort by this column";
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      const rows = [...order];
      if (next !== "none") {
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [one, other] = [a.cells[column], b.cells[column]];
          return missing(one) - missing(other) || (missing(one) ? 0 : sign * compare(one, other));
        });
      }
      body.append(...rows);
    });
  });
}
// Folded parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
