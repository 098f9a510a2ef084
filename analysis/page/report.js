"use strict";

// What the page gains where scripts run: tables sort and filter. Without them it is complete as it stands.
(() => {
  const FILTER_FROM = 9; // rows
  const ABSENT = new Set(["", "–", "—"]);
  // the number that a cell opens with: of an interval its lower bound, of a list its first entry
  const NUMBER = /^[[(<>≤≥≈]?\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)(?!\w)/i;
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  /** What a cell sorts by: numbers come before words, and what is absent comes last. */
  function sortKey(cell) {
    const nodes = [...cell.childNodes].filter((node) => node.nodeName !== "SMALL");
    const text = nodes.map((node) => node.textContent).join("").trim();
    if (ABSENT.has(text)) return { rank: 2 };
    const plain = text.replaceAll("−", "-").replace(/(\d)[,\u00a0\u2009\u202f](?=\d{3})/g, "$1");
    const match = NUMBER.exec(plain);
    return match ? { rank: 0, value: Number(match[1]), text } : { rank: 1, value: 0, text };
  }

  /** Compare two keys; a descending order turns values around, never the place of what is absent. */
  function compare(a, b, direction) {
    if (a.rank !== b.rank || a.rank === 2) return a.rank - b.rank;
    return direction * (a.value - b.value || collator.compare(a.text, b.text));
  }

  /** Give a table its sorting buttons and, where it is long, a filter. */
  function enhance(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    if (rows.length < 2) return;
    let sorted = { column: -1, direction: 0 };
    let wanted = "";
    const status = element("span", { className: "count" });
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");

    function show() {
      const order = [...rows];
      if (sorted.direction) {
        const keys = new Map(rows.map((row) => [row, sortKey(row.cells[sorted.column])]));
        order.sort((a, b) => compare(keys.get(a), keys.get(b), sorted.direction)); // stable
      }
      let shown = 0;
      for (const row of order) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      body.append(...order);
      // rows leave the row that names their group: each then shows the name that it carries
      table.classList.toggle("loose", Boolean(sorted.direction || wanted));
      status.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
    }

    heads.forEach((head, column) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => {
        const next = { 0: 1, 1: -1, [-1]: 0 };
        sorted = { column, direction: sorted.column === column ? next[sorted.direction] : 1 };
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (sorted.direction) {
          head.setAttribute("aria-sort", sorted.direction > 0 ? "ascending" : "descending");
        }
        show();
      });
      head.append(button);
    });

    if (rows.length >= FILTER_FROM) {
      const input = element("input", { type: "search", autocomplete: "off", spellcheck: false });
      input.addEventListener("input", () => {
        wanted = input.value.trim().toLowerCase();
        show();
      });
      const label = element("label", {}, "Filter rows ", input);
      table.closest(".scroll").before(element("div", { className: "filter" }, label, status));
    }
  }

  /** Say where a box scrolls sideways, and let the keyboard reach it. */
  function hint(box) {
    const words = element("p", { className: "hint", hidden: true }, "Scroll sideways to see all of it");
    words.setAttribute("aria-hidden", "true");
    box.before(words);
    const update = () => {
      const wide = box.scrollWidth > box.clientWidth + 1;
      words.hidden = !wide;
      if (wide) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    };
    const observer = new ResizeObserver(update);
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
  }

  /** Mark in the contents the section that is being read. */
  function follow(links) {
    const of = new Map(links.map((link) => [document.getElementById(link.hash.slice(1)), link]));
    const observer = new IntersectionObserver(
      (entries) => {
        const entered = entries.find((entry) => entry.isIntersecting);
        if (!entered) return;
        links.forEach((link) => link.removeAttribute("aria-current"));
        of.get(entered.target).setAttribute("aria-current", "location");
      },
      { rootMargin: "-10% 0px -80% 0px" },
    );
    of.forEach((_, section) => observer.observe(section));
  }

  /** Open what is folded around the place that the address names. */
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target?.scrollIntoView();
  }

  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  document.querySelectorAll(".sheet table").forEach(enhance);
  document.querySelectorAll(".scroll").forEach(hint);
  follow([...document.querySelectorAll("nav a")]);
  if (matchMedia("(max-width: 74.99rem)").matches) document.querySelector("nav details").open = false;

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    opened.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));
})();
