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
  const button = document.createElement("button");
  button.type = "button";
  button.append(...th.childNodes);
  button.addEventListener("click", () => sort(th));
  th.append(button);
}
const shown = document.getElementById("shown");
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const row of body.rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
  shown.textContent = `${[...body.rows].filter((row) => !row.hidden).length} of ${body.rows.length}`;
});
for (const box of document.querySelectorAll(".box")) {
  box.addEventListener("click", () => {
    filter.value = box.dataset.sought;
    filter.dispatchEvent(new Event("input"));
    filter.scrollIntoView({ block: "center" });
  });
}
document.getElementById("download").addEventListener("click", () => {
  const quoted = (text) => `"${(/^[=+\-@\t\r]/.test(text) && isNaN(text) ? "'" : "") + text.replaceAll('"', '""')}"`;
  const lines = [[...table.tHead.rows[0].cells].map((th) => th.textContent)];
  for (const row of body.rows) if (!row.hidden) lines.push([...row.cells].map((_, i) => value(row, i)));
  const text = lines.map((line) => line.map(quoted).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "cases.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
const tip = document.getElementById("tip");
for (const figure of document.querySelectorAll("figure.chart")) {
  figure.addEventListener("pointermove", (e) => {
    const mark = e.target.closest("use[aria-label], [aria-roledescription][aria-label]");
    tip.hidden = !mark || !/mark|point|bar|circle/i.test(mark.getAttribute("aria-roledescription") ?? "point");
    if (tip.hidden) return;
    tip.textContent = mark.getAttribute("aria-label").replaceAll("; ", "\n");
    tip.style.left = `${Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(e.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
  figure.addEventListener("pointerleave", () => { tip.hidden = true; });
}
function unfold(id) {
  const inner = id && document.getElementById(id)?.querySelector("details");
  if (inner) inner.open = true;
}
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", () => unfold(link.hash.slice(1)));
}
unfold(location.hash.slice(1));
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
