function sortBy(table, column, heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const keyed = [...table.tBodies[0].rows].map((row) => {
    const cell = row.cells[column];
    const value = cell.dataset.value?.replace("inf", "Infinity");
    return { row, empty: cell.textContent === "", value: value ? Number(value) : cell.textContent };
  });
  keyed.sort((a, b) => {
    if (a.empty || b.empty) return a.empty - b.empty; // empty cells stay last
    const order = a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...keyed.map(({ row }) => row));
}

function startTable() {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, i) => {
      heading.querySelector("button").addEventListener("click", () => sortBy(table, i, heading));
    });
  }
  const columns = Object.keys(data.points[0]);
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const cell = (value) => quoted(value === null ? "" : String(value).replace("Infinity", "inf"));
  const lines = [columns, ...data.points.map((p) => columns.map((name) => p[name]))];
  const text = lines.map((line) => line.map(cell).join(",")).join("\n");
  byId("download").href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
  byId("table-help").hidden = false;
}
