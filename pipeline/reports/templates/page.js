"use strict";
// Unpacks what is looked at, chooses questions, and links a frame to its marker.
(() => {
  const cards = [...document.querySelectorAll(".card")];

  // A card that stands far down a long page keeps its frames packed until it comes near.
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const draw = async (card) => {
    const routes = card.querySelector("[data-packed]");
    if (!routes) return;
    const packed = routes.dataset.packed;
    routes.removeAttribute("data-packed");
    routes.innerHTML = await unpack(packed);
    routes.removeAttribute("aria-busy");
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "1200px" });
  for (const card of cards) if (card.querySelector("[data-packed]")) near.observe(card);
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
    const told = form.querySelector(".shown");
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

  const point = (event, on) => {
    const frame = event.target.closest?.(".route .frame");
    if (!frame) return;
    const marks = frame.closest(".route").querySelectorAll(".mark");
    marks[[...frame.parentElement.children].indexOf(frame)]?.classList.toggle("is-pointed", on);
  };
  document.addEventListener("pointerover", (event) => point(event, true));
  document.addEventListener("pointerout", (event) => point(event, false));
})();
