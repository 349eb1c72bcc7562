for (const figure of document.querySelectorAll("figure.chart")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const wide = figure.clientWidth;
  const alone = spec.concat.length === 1 && spec.concat[0].width > 400;
  spec.columns = wide >= 1080 ? 3 : wide >= 700 ? 2 : 1;
  spec.config.legend.columns = spec.columns > 1 ? 6 : 3;
  const width = alone ? Math.min(680, Math.max(160, wide - 240))
    : Math.min(300, Math.max(200, (wide - 40) / spec.columns - 76));
  for (const panel of spec.concat) panel.width = width;
  vegaEmbed(figure.querySelector(".drawing"), spec, { renderer: "svg", actions: false });
}
const table = document.querySelector("table.sortable");
const body = table.tBodies[0];
const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
function compare(a, b) {
  if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
  return a === "" ? 0 : a.localeCompare(b, "en", { numeric: true });
}
const numeric = (a, b) => a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
function sort(th) {
  const i = th.cellIndex, down = th.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].sort((p, q) => {
    const a = value(p, i), b = value(q, i);
    if (a === "" || b === "") return compare(a, b);
    return (down ? -1 : 1) * (numeric(a, b) ? a - b : compare(a, b));
  });
  body.append(...rows);
}
for (const th of table.tHead.rows[0].cells) {
  th.tabIndex = 0;
  th.addEventListener("click", () => sort(th));
  th.addEventListener("keydown", (e) => {
    if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(th); }
  });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
document.getElementById("filter").addEventListener("input", (e) => {
  const words = e.target.value.toLowerCase().split(/\s+/);
  for (const row of body.rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
});
