"use strict";
// Unpacks what is looked at, chooses and walks questions, sorts and gives away tables, and links a frame to its marker.
(() => {
  const cards = [...document.querySelectorAll(".card")];

  const button = (name, action) => Object.assign(document.createElement("button"), { type: "button", textContent: name, onclick: action });

  // A click on a picture shows it large, and the video at that second as far as it lies where it was.
  const enlargeable = (card) => {
    for (const picture of card.querySelectorAll(".frame > img")) {
      const opener = button("", () => enlarge(card, picture));
      opener.className = "enlarge";
      opener.title = "Show it large";
      picture.before(opener);
      opener.append(picture);
    }
  };
  const enlarge = (card, picture) => {
    const { second } = picture.closest(".frame").dataset;
    const shown = document.createElement("dialog");
    shown.className = "large";
    const name = document.createElement("p");
    name.id = "large-name";
    name.textContent = `${picture.alt}: ${card.querySelector("h3").textContent}`;
    shown.setAttribute("aria-labelledby", name.id);
    const copy = Object.assign(new Image(), { src: picture.src, alt: picture.alt });
    const told = document.createElement("p");
    told.className = "notice";
    shown.append(button("Close", () => shown.close()), name, copy, told);
    const without = () => { told.textContent = "The video cannot be played from here: this is the picture of the page."; };
    if (card.dataset.video) {
      const video = document.createElement("video");
      video.controls = true;
      video.preload = "auto";
      video.hidden = true;
      video.addEventListener("loadeddata", () => { copy.hidden = true; video.hidden = false; });
      video.addEventListener("error", without);
      video.src = `${card.dataset.video}#t=${second}`;
      copy.after(video);
    } else {
      without();
    }
    shown.addEventListener("click", (event) => { if (event.target === shown) shown.close(); });
    shown.addEventListener("close", () => { shown.remove(); picture.parentElement.focus(); });
    document.body.append(shown);
    shown.showModal();
  };

  const finish = (card) => {
    if (card.dataset.finished) return;
    card.dataset.finished = "yes";
    enlargeable(card);
    for (const text of card.querySelectorAll(".prompt pre")) text.after(actions(button("Copy", (event) => copy(text.textContent, event))));
  };

  // A card that stands far down a long page keeps its frames packed until it comes near.
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const draw = async (card) => {
    const routes = card.querySelector("[data-packed]");
    if (!routes) { finish(card); return; }
    const packed = routes.dataset.packed;
    routes.removeAttribute("data-packed");
    routes.innerHTML = await unpack(packed);
    routes.removeAttribute("aria-busy");
    finish(card);
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "1200px" });
  for (const card of cards) near.observe(card);
  document.addEventListener("focusin", (event) => { const card = event.target.closest?.(".card"); if (card) draw(card); });

  // What a packed card says is told once more in one piece, because unpacking a thousand cards takes seconds.
  const words = new Map();
  const read = async () => {
    const packed = document.querySelector(".questions").dataset.words;
    const said = packed ? JSON.parse(await unpack(packed)) : [];
    cards.forEach((card, at) => words.set(card, `${card.textContent} ${said[at] ?? ""}`.toLowerCase().replace(/\s+/g, " ")));
  };

  const form = document.querySelector(".toolbar");
  if (form) {
    const told = form.querySelector("[role=status]");
    const shows = [...form.elements.show];
    const choices = [...form.querySelectorAll("select")];
    const find = form.elements.find;
    const facts = new Map(cards.map((card) => [card, {
      marks: new Map(card.dataset.marks.trim().split(" ").filter(Boolean).map((mark) => {
        const [name, runs] = mark.split(":");
        return [name, runs.split(",")];
      })),
      groups: JSON.parse(card.dataset.groups),
    }]));
    let turn = 0;
    const look = async () => {
      const mine = ++turn;
      const wanted = find.value.trim().toLowerCase().replace(/\s+/g, " ");
      if (wanted && !words.size) await read();
      if (mine !== turn) return;
      const run = form.elements.run?.value ?? "";
      const marked = (card, mark) => {
        const runs = facts.get(card).marks.get(mark);
        return mark === "all" || (runs !== undefined && (run === "" || runs.includes(run)));
      };
      // A question of several types has a label for each: "question_type/reasoning".
      const inGroups = (card) => choices.every(({ value, dataset: { label } }) => !label || !value ||
        facts.get(card).groups.some(([name, found]) => found === value && name.split("/")[0] === label));
      const fitting = cards.filter((card) => inGroups(card) && (!wanted || words.get(card).includes(wanted)));
      const mark = form.elements.show.value;
      const visible = new Set(fitting.filter((card) => marked(card, mark)));
      for (const card of cards) card.hidden = !visible.has(card);
      for (const show of shows) {
        const count = fitting.filter((card) => marked(card, show.value)).length;
        show.parentElement.querySelector(".count").textContent = count;
        show.disabled = count === 0 && !show.checked && show.value !== "all";
      }
      told.textContent = visible.size ? `${visible.size} of ${cards.length} questions shown` : "No question is of this kind";
    };

    // The choice is kept in the address, so that a link to "the wrong ones of an hour" can be sent.
    const write = () => {
      const state = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && !(name === "show" && value === "all")));
      const here = location.hash.startsWith("#q-") ? location.hash : "#";
      history.replaceState(null, "", location.href.split("#")[0] + (`${state}` ? `#${state}` : here));
    };
    const restore = () => {
      const card = document.getElementById(location.hash.slice(1));
      if (card?.hidden) {
        // A link to a question leads there, whatever was chosen before.
        form.reset();
        look().then(() => card.scrollIntoView());
        return;
      }
      const state = new URLSearchParams(location.hash.slice(1));
      if (![...state.keys()].some((name) => form.elements[name])) return;
      form.reset();
      for (const [name, value] of state) if (form.elements[name]) form.elements[name].value = value;
      look();
    };
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => { write(); look(); });
    form.addEventListener("reset", () => setTimeout(() => { write(); look(); }));
    addEventListener("hashchange", restore);
    look();
    restore();
  }

  // The toolbar stays in sight: what is jumped to must end up below it, however many lines it takes.
  const bar = document.querySelector(".toolbar");
  if (bar) {
    const measure = () => document.documentElement.style.setProperty(
      "--toolbar", `${getComputedStyle(bar).position === "sticky" ? Math.ceil(bar.getBoundingClientRect().height) : 0}px`);
    new ResizeObserver(measure).observe(bar);
    addEventListener("resize", measure);
    measure();
    const here = document.getElementById(location.hash.slice(1));
    if (here && !here.hidden) here.scrollIntoView();
  }

  // j and k lead from question to question.
  const go = (card) => {
    draw(card);
    card.tabIndex = -1;
    card.focus({ preventScroll: true });
    card.scrollIntoView();
  };
  document.addEventListener("keydown", (event) => {
    const step = { j: 1, k: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
    const visible = cards.filter((card) => !card.hidden);
    const current = document.activeElement?.closest(".card");
    // Without a question in focus, the next one is the first below the top of the window.
    const top = (parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0) + 1;
    const below = visible.findIndex((card) => card.getBoundingClientRect().top > top);
    const at = visible.includes(current) ? visible.indexOf(current) + step
      : step > 0 ? (below < 0 ? visible.length - 1 : below) : (below < 0 ? visible.length : below) - 1;
    if (visible[at]) go(visible[at]);
  });

  // Columns of figures are sorted by their first number, the largest first; a cell without one comes last.
  const valueOf = (row, at) => row.cells[at]?.textContent.trim() ?? "";
  const numberIn = (text) => {
    const found = text.replace(/[\u202f ](?=\d{3})/g, "").match(/^\D{0,2}?(-?\d+(\.\d+)?)/);
    return found ? Number(found[1]) : NaN;
  };
  const sort = (table, head, at) => {
    const down = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.classList.contains("figure"));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    const sign = down ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [row, valueOf(row, at), numberIn(valueOf(row, at))]);
    rows.sort(([, one, first], [, other, second]) => head.classList.contains("figure")
      ? (isNaN(first) - isNaN(second)) || sign * (first - second) || 0
      : sign * one.localeCompare(other, undefined, { numeric: true }));
    table.tBodies[0].append(...rows.map(([row]) => row));
  };
  const asRows = (table) => [...table.rows].map((row) => [...row.cells].map((cell) =>
    [...cell.childNodes].map((node) => node.textContent.trim()).filter(Boolean).join("; ").replace(/\s+/g, " ")));
  const quoted = (text) => /[",;\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const copy = async (text, event) => {
    const from = event.currentTarget;
    const name = from.textContent;
    try {
      await navigator.clipboard.writeText(text);
      from.textContent = "Copied";
    } catch {
      from.textContent = "Not allowed here";
    }
    setTimeout(() => { from.textContent = name; }, 1500);
  };
  const download = (text, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const actions = (...buttons) => {
    const line = document.createElement("p");
    line.className = "actions";
    line.append(...buttons);
    return line;
  };
  for (const table of document.querySelectorAll("main > section:not(.questions) table")) {
    const name = (table.closest("section").querySelector("h2")?.textContent ?? "table").trim().toLowerCase().replace(/\W+/g, "-");
    const body = table.tBodies[0];
    if (body?.rows.length > 1) {
      [...table.tHead.rows[0].cells].forEach((head, at) => {
        const sorter = button("", () => sort(table, head, at));
        sorter.className = "sorter";
        sorter.append(...head.childNodes);
        head.append(sorter);
      });
    }
    // Read when they are asked for, since the rows may be sorted by then.
    table.closest(".scroll")?.after(actions(
      button("Copy", (event) => copy(asRows(table).map((row) => row.join("\t")).join("\n"), event)),
      button("Download CSV", () => download(asRows(table).map((row) => row.map(quoted).join(",")).join("\r\n"), `${name}.csv`))));
  }
  for (const text of document.querySelectorAll(".run pre")) text.after(actions(button("Copy", (event) => copy(text.textContent, event))));

  // A link to a part of the page that is closed opens it.
  const open = () => {
    const part = document.getElementById(location.hash.slice(1))?.closest("details");
    if (!part || part.open) return;
    part.open = true;
    part.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();

  const point = (event, on) => {
    const frame = event.target.closest?.(".route .frame");
    if (!frame) return;
    const marks = frame.closest(".route").querySelectorAll(".mark");
    marks[[...frame.parentElement.children].indexOf(frame)]?.classList.toggle("is-pointed", on);
  };
  document.addEventListener("pointerover", (event) => point(event, true));
  document.addEventListener("pointerout", (event) => point(event, false));
})();
