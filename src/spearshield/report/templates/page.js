"use strict";
/* Sorts a table by the column of a clicked header, and filters the rows. The page is whole without it. */
const number = (text) => {
  const [value, whole] = text.replace(/[,[\]]/g, "").split("/").map(parseFloat);
  return whole ? value / whole : value;
};
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) || isNaN(y)) return isNaN(x) && isNaN(y) ? a.localeCompare(b, "en") : isNaN(x) - isNaN(y);
  return x - y;
};
/* A record with its folded lines. */
const records = (body) => {
  const found = [];
  for (const row of body.rows) {
    if (row.classList.contains("about")) found.at(-1).push(row);
    else if (!row.classList.contains("setting")) found.push([row]);
  }
  return found;
};
const sort = (head, column) => {
  const table = head.closest("table");
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  table.classList.add("sorted");
  const text = (record) => record[0].cells[column].textContent.trim();
  const known = (record) => text(record) !== "" && text(record) !== "n/a";
  for (const body of table.tBodies) {
    const order = records(body).sort((a, b) =>
      known(b) - known(a) || (up ? 1 : -1) * compare(text(a), text(b)));
    body.append(...order.flat());
  }
};
for (const table of document.querySelectorAll(".headline, .rows, .training, .provenance")) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    if (head.classList.contains("drawing")) continue;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  }
}
const filter = document.getElementById("filter");
const show = () => {
  const terms = filter.value.toLowerCase().split(/\s+/);
  let all = 0, left = 0;
  for (const table of document.querySelectorAll(".rows")) {
    const caption = table.caption.textContent;
    let some = false;
    for (const record of [...table.tBodies].flatMap(records)) {
      const text = (caption + record.map((row) => row.textContent).join(" ")).toLowerCase();
      const fits = terms.every((term) => text.includes(term));
      for (const row of record) row.hidden = !fits;
      some ||= fits;
      all += 1;
      left += fits;
    }
    table.parentNode.hidden = !some;
  }
  document.getElementById("left").textContent = left < all ? `${left} of ${all} rows` : "";
};
filter.closest("p").hidden = false;
filter.addEventListener("input", show);
