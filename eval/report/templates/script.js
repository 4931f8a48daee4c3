"use strict";
(() => {
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const root = document.documentElement;

  // Theme: that of the system unless the reader chose one; a page opened from a file may have no storage.
  const store = (value) => { try { localStorage.setItem("theme", value); } catch { /* no storage */ } };
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const theme = document.getElementById("page-theme");
  const show = (value) => {
    root.dataset.theme = value;
    theme.textContent = value === "dark" ? "Light theme" : "Dark theme";
  };
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const chosen = stored();
  if (chosen === "dark" || chosen === "light") show(chosen);
  else theme.textContent = system === "dark" ? "Light theme" : "Dark theme";
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    show(next);
    store(next);
  });

  // Sorting: headings become buttons; rows without a number stay last in either direction.
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.value === undefined || cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const sort = (table, heading) => {
    const column = heading.cellIndex, kind = heading.dataset.sort;
    const now = heading.getAttribute("aria-sort");
    const first = heading.dataset.first || (kind === "text" ? "ascending" : "descending");
    const other = first === "ascending" ? "descending" : "ascending";
    const next = now === first ? other : first;
    const sign = next === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, index) => ({ row, index, value: value(row, column, kind) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.index - b.index;
      const difference = kind === "text" ? a.value.localeCompare(b.value, "en", { numeric: true }) : a.value - b.value;
      return sign * difference || a.index - b.index;
    });
    body.append(...rows.map((item) => item.row));
    all("th[data-sort]", table.tHead).forEach((other) => other.setAttribute("aria-sort", other === heading ? next : "none"));
  };
  all("table.sortable").forEach((table) => all("th[data-sort]", table.tHead).forEach((heading) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    if (!heading.hasAttribute("aria-sort")) heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heading));
  }));

  // Filter: an entry is visible if its words contain every word of the query.
  const tools = document.getElementById("page-tools"), words = document.getElementById("page-words");
  const dataset = document.getElementById("page-dataset"), count = document.getElementById("page-count");
  const filter = () => {
    const query = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (text) => query.every((word) => text.includes(word));
    const selected = dataset ? dataset.value : "";
    let visible = 0, total = 0;
    all("section.dataset").forEach((section) => {
      section.hidden = selected !== "" && section.dataset.name !== selected;
      all("[data-words]", section).forEach((item) => { item.hidden = !matches(item.dataset.words.toLowerCase()); });
      const rows = all("table.board tbody tr", section);
      total += rows.length;
      visible += section.hidden ? 0 : rows.filter((row) => !row.hidden).length;
    });
    count.textContent = `${visible} of ${total} entries`;
  };
  if (tools) {
    tools.hidden = false;
    tools.addEventListener("submit", (event) => event.preventDefault());
    words.addEventListener("input", filter);
    if (dataset) dataset.addEventListener("change", filter);
    filter();
  }

  // Enlarge a picture of attention, next to its image and with labels of the levels.
  const zoom = document.getElementById("page-zoom"), zoomed = zoom.querySelector(".zoomed");
  all("button.zoom").forEach((button) => button.addEventListener("click", () => {
    const image = button.closest(".example").querySelector("img.image").cloneNode();
    const maps = document.createElement("div");
    maps.append(...[...button.children].map((node) => node.cloneNode(true)));
    zoom.querySelector("p").replaceChildren(...[...button.previousElementSibling.childNodes].map((node) => node.cloneNode(true)));
    zoomed.style.setProperty("--levels", button.style.getPropertyValue("--levels"));
    zoomed.replaceChildren(image, maps);
    zoom.showModal();
  }));
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });

  // A link into a closed section opens it, and clears the filter if that hides the target.
  const open = () => {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* not encoded */ }
    const target = document.getElementById(name);
    if (!target) return;
    if (tools && target.closest("[hidden]")) {
      words.value = "";
      if (dataset) dataset.value = "";
      filter();
    }
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  if (location.hash) open();

  // Save the metrics as a JSON file.
  const save = document.getElementById("page-save");
  if (save) save.hidden = false;
  if (save) save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([document.getElementById("page-data").textContent], { type: "application/json" }));
    link.download = "report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
