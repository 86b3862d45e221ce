
(() => {
  "use strict";
  const slider = document.getElementById("opacity");
  if (slider) {
    const shown = document.getElementById("opacity-shown");
    const apply = () => {
      document.documentElement.style.setProperty("--map-opacity", slider.value / 100);
      shown.textContent = slider.value + " %";
    };
    slider.addEventListener("input", apply);
    apply();
  }
  const key = (row, column, isNumber) => {
    const text = row.cells[column].dataset.value;
    return isNumber ? Number(text) : text;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        const isNumber = head.dataset.kind === "number";
        const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
        const words = new Intl.Collator("en", { numeric: true });
        const compare = isNumber ? order : words.compare;
        const body = table.tBodies[0];
        const rows = Array.from(body.rows, (row) => [key(row, column, isNumber), row]);
        rows.sort((a, b) => sign * compare(a[0], b[0]));
        body.append(...rows.map((pair) => pair[1]));
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      });
    });
  }
})();
