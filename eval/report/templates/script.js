"use strict";
(() => {
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const root = document.documentElement;

  // Light and dark: the system's unless one was chosen; a page from a file may have nowhere to keep it.
  const keep = (value) => { try { localStorage.setItem("theme", value); } catch { /* not kept */ } };
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const theme = document.getElementById("page-theme");
  const show = (value) => {
    root.dataset.theme = value;
    theme.textContent = value === "dark" ? "Light theme" : "Dark theme";
  };
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const chosen = kept();
  if (chosen === "dark" || chosen === "light") show(chosen);
  else theme.textContent = system === "dark" ? "Light theme" : "Dark theme";
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    show(next);
    keep(next);
  });

  // Sorting: a heading becomes a button; what has no number stays last either way.
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
    const rows = [...body.rows].map((row, place) => ({ row, place, value: value(row, column, kind) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      const apart = kind === "text" ? a.value.localeCompare(b.value, "en", { numeric: true }) : a.value - b.value;
      return sign * apart || a.place - b.place;
    });
    body.append(...rows.map((each) => each.row));
    all("th[data-sort]", table.tHead).forEach((each) => each.setAttribute("aria-sort", each === heading ? next : "none"));
  };
  all("table.sortable").forEach((table) => all("th[data-sort]", table.tHead).forEach((heading) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    if (!heading.hasAttribute("aria-sort")) heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heading));
  }));

  // Filters: every word must stand in the entry's.
  const tools = document.getElementById("page-tools"), words = document.getElementById("page-words");
  const dataset = document.getElementById("page-dataset"), count = document.getElementById("page-count");
  const filter = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => asked.every((word) => text.includes(word));
    const wanted = dataset ? dataset.value : "";
    let shown = 0, total = 0;
    all("section.dataset").forEach((section) => {
      section.hidden = wanted !== "" && section.dataset.name !== wanted;
      all("[data-words]", section).forEach((each) => { each.hidden = !fits(each.dataset.words.toLowerCase()); });
      const rows = all("table.board tbody tr", section);
      total += rows.length;
      shown += section.hidden ? 0 : rows.filter((row) => !row.hidden).length;
    });
    count.textContent = `${shown} of ${total} entries`;
  };
  if (tools) {
    tools.hidden = false;
    tools.addEventListener("submit", (event) => event.preventDefault());
    words.addEventListener("input", filter);
    if (dataset) dataset.addEventListener("change", filter);
    filter();
  }

  // A picture of attention is enlarged beside its image, under labels of the levels.
  const zoom = document.getElementById("page-zoom"), zoomed = zoom.querySelector(".zoomed");
  all("button.zoom").forEach((button) => button.addEventListener("click", () => {
    const image = button.closest(".example").querySelector("img.image").cloneNode();
    const maps = document.createElement("div");
    maps.append(...[...button.children].map((each) => each.cloneNode(true)));
    zoom.querySelector("p").replaceChildren(...[...button.previousElementSibling.childNodes].map((each) => each.cloneNode(true)));
    zoomed.style.setProperty("--levels", button.style.getPropertyValue("--levels"));
    zoomed.replaceChildren(image, maps);
    zoom.showModal();
  }));
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });

  // A link to something inside a closed part opens it, and clears a filter that hides it.
  const open = () => {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* as it is */ }
    const target = document.getElementById(name);
    if (!target) return;
    if (tools && target.closest("[hidden]")) {
      words.value = "";
      if (dataset) dataset.value = "";
      filter();
    }
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  if (location.hash) open();

  // The metrics as they were measured, to a file.
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
