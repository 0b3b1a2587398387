"use strict";
// Filters work by CSS alone; this adds search, a count of what is shown, and the link between a frame and its marker.
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const search = document.querySelector(".search");
  const shown = document.querySelector(".shown");
  const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
  const tell = () => {
    const visible = cards.filter((card) => getComputedStyle(card).display !== "none").length;
    shown.textContent = visible === cards.length ? "" : `${visible} of ${cards.length} shown`;
  };
  const look = () => {
    const wanted = search.querySelector("input").value.trim().toLowerCase();
    for (const card of cards) card.hidden = wanted !== "" && !words.get(card).includes(wanted);
    tell();
  };
  if (cards.length > 1) {
    search.hidden = shown.hidden = false;
    search.addEventListener("input", look);
    document.querySelector(".filters").addEventListener("change", tell);
    tell();
  }
  const point = (event, on) => {
    const frame = event.target.closest?.(".frame");
    if (!frame) return;
    const mark = frame.closest(".route").querySelector(`.mark[data-at="${frame.dataset.at}"]`);
    mark?.classList.toggle("is-pointed", on);
  };
  document.addEventListener("pointerover", (event) => point(event, true));
  document.addEventListener("pointerout", (event) => point(event, false));
})();
