// Asks a question, tells how far it is, and shows the reply.
import { clock } from "/static/player.js";

const SVG = "http://www.w3.org/2000/svg";
const LONG = 90;

// The events of a stream as they come: [name, content].
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const name = block.match(/^event: (.*)$/m)?.[1];
      const data = block.match(/^data: (.*)$/m)?.[1];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}

// How far a question is, by all that was told of it: its stage, the words for it, and the share that is done; null where
// that is not known. Frames are decoded while windows before them are read.
export class HowFar {
  decoded = null;
  scored = null;
  stage = "queued";

  take(event) {
    const stages = ["queued", "decoding", "scoring", "generating"];
    if (event.stage === "decoding" && event.total) this.decoded = event;
    if (event.stage === "scoring") this.scored = event;
    if (stages.indexOf(event.stage) > stages.indexOf(this.stage)) this.stage = event.stage;
    this.before = event.stage === "queued" ? event.done : 0;
  }

  get isDecoding() {
    return this.stage === "scoring" && this.decoded !== null && this.decoded.done < this.decoded.total;
  }

  get words() {
    const { decoded, scored } = this;
    if (this.stage === "queued") return this.before ? `Waiting: ${this.before} questions are before this one.` : "Waiting.";
    if (this.stage === "generating") return "Writing the answer.";
    const parts = [];
    if (decoded && !(scored?.what === "frames")) parts.push(`${decoded.done} of ${decoded.total} frames decoded.`);
    if (scored) parts.push(`${scored.done} of ${scored.total} ${scored.what} read.`);
    return parts.join(" ") || "Opening the video.";
  }

  get share() {
    const told = this.scored ?? this.decoded;
    return told?.total && this.stage !== "generating" ? told.done / told.total : null;
  }
}

// A reply as an article whose frames and timeline lead to their second: go(second).
export const articleOf = (result, go) => {
  const article = document.createElement("article");
  article.className = "card";
  article.append(...new DOMParser().parseFromString(result.html, "text/html").body.childNodes);
  const said = article.querySelector(".said");
  said.classList.toggle("is-long", said.textContent.length > LONG);
  for (const frame of article.querySelectorAll(".frame")) {
    const second = Number(frame.dataset.second);
    const picture = Object.assign(new Image(), { alt: `Frame at ${clock(second)}` });
    const button = Object.assign(document.createElement("button"), { type: "button", className: "seek", title: `Go to ${clock(second)}` });
    button.append(picture);
    button.addEventListener("click", () => go(second));
    frame.prepend(button);
  }
  const drawing = article.querySelector(".timeline > svg");
  if (drawing && result.duration > 0) {
    drawing.addEventListener("click", (event) => {
      const { left, width } = drawing.getBoundingClientRect();
      go(Math.min(Math.max((event.clientX - left) / width, 0), 1) * result.duration);
    });
    const head = document.createElementNS(SVG, "line");
    head.setAttribute("class", "playhead");
    head.setAttribute("y1", "0");
    head.setAttribute("y2", drawing.querySelector(".foot").getAttribute("y1"));
    head.setAttribute("visibility", "hidden");
    drawing.append(head);
  }
  article.dataset.video = result.video;
  article.dataset.duration = result.duration;
  return article;
};

// The place of a second on an article's timeline and among its frames.
export const mark = (article, second) => {
  const head = article.querySelector(".playhead");
  if (head) {
    const place = `${Math.min(100, (100 * second) / Number(article.dataset.duration))}%`;
    head.setAttribute("x1", place);
    head.setAttribute("x2", place);
    head.setAttribute("visibility", "visible");
  }
  for (const frame of article.querySelectorAll(".frame")) {
    frame.classList.toggle("is-current", Math.abs(Number(frame.dataset.second) - second) < 0.05);
  }
};

export const addPictures = (article, { shown, problem }) => {
  for (const frame of article.querySelectorAll(".frame")) {
    const address = shown[frame.dataset.second];
    if (address) frame.querySelector("img").src = address;
  }
  const told = article.querySelector("[data-pictures]");
  if (told && problem) told.textContent = `No pictures: ${problem}`;
  else told?.remove();
};
