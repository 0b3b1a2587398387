// The page: chooses or sends a video, asks about it, and shows what comes back.
import { HowFar, addPictures, articleOf, eventsOf, mark } from "/static/asking.js";
import { Player } from "/static/player.js";

const byId = (id) => document.getElementById(id);
const videos = new Map();
let most = Infinity;
let asking = null;
let sending = null;

const problemOf = async (response) => {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server gave status ${response.status}.`;
  }
};

const ask = async (address, options) => {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (response.status === 401 && address !== "/api/key") lock();
  if (!response.ok) throw new Error(await problemOf(response));
  return response;
};
const json = async (address, options) => (await ask(address, options)).json();
const posting = (content, more) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content), ...more });

const tell = (text) => { byId("told").textContent = text; };
const fail = (text) => {
  byId("failed").hidden = !text;
  byId("failed").textContent = text;
};

// Videos

const articlesOf = (id) => [...byId("answers").children].filter((article) => article.dataset.video === id);
const player = new Player(json, tell, (second) => {
  for (const article of articlesOf(player.current?.id)) mark(article, second);
});

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(0.1, bytes / 1e6).toFixed(1)} MB`);

const list = () => {
  const select = byId("video");
  const here = player.current?.id ?? "";
  const entry = (video) => new Option(`${video.name} (${size(video.bytes)})`, video.id);
  const group = (label, found) => {
    const made = document.createElement("optgroup");
    made.label = label;
    made.append(...found.map(entry));
    return found.length ? [made] : [];
  };
  const all = [...videos.values()];
  const first = new Option(all.length ? "Choose a video" : "No videos are declared: open a file", "");
  select.replaceChildren(first, ...group("Opened here", all.filter((video) => video.isSent)), ...group("Folders of the server", all.filter((video) => !video.isSent)));
  select.value = videos.has(here) ? here : "";
};

const refresh = async () => {
  const found = (await json("/api/videos")).videos;
  for (const [id, video] of videos) if (!video.isSent) videos.delete(id);
  for (const video of found) videos.set(video.id, video);
  list();
};

const choose = (id) => {
  player.show(videos.get(id) ?? null);
  byId("video").value = id;
};

const seek = (id, second) => {
  if (player.current?.id !== id) choose(id);
  player.seek(second);
};

const forget = (video) => fetch(`/api/uploads/${video.id}`, { method: "DELETE", keepalive: true }).catch(() => {});

const send = (file) => {
  sending?.abort();
  tell("");
  if (file.size > most) {
    tell(`${file.name} has ${size(file.size)}, and the server takes ${size(most)}. Put it into a folder of the server instead.`);
    return;
  }
  const request = new XMLHttpRequest();
  sending = request;
  const end = () => {
    if (sending !== request) return;
    sending = null;
    byId("sending").hidden = true;
  };
  byId("sending").hidden = false;
  byId("sending-told").textContent = `Sending ${file.name}`;
  byId("sending-bar").removeAttribute("value");
  request.upload.addEventListener("progress", (event) => { byId("sending-bar").value = event.loaded / event.total; });
  request.addEventListener("error", () => { end(); tell("The file could not be sent."); });
  request.addEventListener("abort", end);
  request.addEventListener("load", () => {
    end();
    let found;
    try {
      found = JSON.parse(request.responseText);
    } catch {
      found = {};
    }
    if (request.status === 200) {
      videos.set(found.id, { ...found, isSent: true });
      list();
      choose(found.id);
      byId("question").focus();
    } else {
      tell(found.error?.message ?? `The server gave status ${request.status}.`);
    }
  });
  request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
  request.send(file);
};

byId("video").addEventListener("change", (event) => choose(event.target.value));
byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) send(event.target.files[0]);
  event.target.value = "";
});
byId("sending-stop").addEventListener("click", () => sending?.abort());
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("screen").classList.add("is-target");
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("screen").classList.remove("is-target"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("screen").classList.remove("is-target");
  if (event.dataTransfer.files.length && !byId("room").hidden) send(event.dataTransfer.files[0]);
});
addEventListener("pagehide", (event) => {
  if (event.persisted) return;
  for (const video of videos.values()) if (video.isSent) forget(video);
});

// In one column the video stays in sight above what is scrolled: what is jumped to must end up below it.
const stage = document.querySelector(".stage");
const measure = () => {
  const isAbove = getComputedStyle(stage).position === "sticky" && stage.getBoundingClientRect().width > byId("room").clientWidth * 0.9;
  document.documentElement.style.setProperty("--stage", isAbove ? `${Math.ceil(stage.getBoundingClientRect().height)}px` : "0px");
};
new ResizeObserver(measure).observe(stage);
addEventListener("resize", measure);

// Questions

const STEPS = ["decoding", "scoring", "generating"];
const progress = (far) => {
  byId("progress-told").textContent = far.words;
  if (far.share === null) byId("bar").removeAttribute("value");
  else byId("bar").value = far.share;
  const at = STEPS.indexOf(far.stage);
  for (const step of document.querySelectorAll("[data-step]")) {
    const place = STEPS.indexOf(step.dataset.step);
    const isGoing = place === at || (place < at && far.isDecoding && step.dataset.step === "decoding");
    step.classList.toggle("is-going", isGoing);
    step.classList.toggle("is-done", place < at && !isGoing);
    if (place === at) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  }
  if (far.scored) document.querySelector('[data-step="scoring"]').textContent = far.scored.what === "frames" ? "Scores" : "Windows";
  // Said aloud once a stage, not once a window.
  if (progress.said !== far.stage) byId("announced").textContent = far.words;
  progress.said = far.stage;
};

const began = { at: 0, timer: 0 };
const elapsed = () => { byId("elapsed").textContent = `${Math.round((performance.now() - began.at) / 1000)} s`; };
const begin = (is) => {
  clearInterval(began.timer);
  if (is) {
    began.at = performance.now();
    began.timer = setInterval(elapsed, 1000);
    elapsed();
  }
  const [send, stop] = [byId("send"), byId("stop")];
  const focused = document.activeElement;
  byId("progress").hidden = !is;
  stop.hidden = !is;
  send.disabled = is;
  // A button that goes away would take the focus with it.
  if (is && focused === send) stop.focus();
  else if (!is && focused === stop) byId("question").focus();
  if (is) progress(new HowFar());
};

const put = async (asked) => {
  const stopping = new AbortController();
  asking = stopping;
  fail("");
  begin(true);
  try {
    const response = await ask("/api/questions", posting(asked, { signal: stopping.signal }));
    const far = new HowFar();
    let article = null;
    let isFailed = false;
    for await (const [name, content] of eventsOf(response)) {
      if (name === "progress") {
        far.take(content);
        progress(far);
      } else if (name === "failed") {
        isFailed = true;
        fail(content.message);
      } else if (name === "result") {
        article = articleOf(content, (second) => seek(content.video, second));
        byId("answers").prepend(article);
        begin(false);
        byId("announced").textContent = `${content.said}. ${article.querySelectorAll(".frame").length} frames are shown.`;
        article.querySelector(".said").scrollIntoView({ block: "nearest" });
      } else if (name === "pictures") addPictures(article, content);
    }
    if (!article && !isFailed) fail("The server ended before it answered.");
  } catch (error) {
    fail(error.name === "AbortError" ? "" : error.message);
  } finally {
    if (asking === stopping) {
      asking = null;
      begin(false);
    }
  }
};

const options = () => byId("options").value.split("\n").map((line) => line.trim()).filter(Boolean);
byId("options").addEventListener("input", () => {
  const count = options().length;
  document.querySelector(".choices summary").textContent = count ? `Multiple choice: ${count} options` : "Multiple choice";
});
// Start and end of the part that is asked about; null for all of the video.
const span = () => {
  const [from, until] = ["from", "until"].map((id) => byId(id).value);
  if (!from && !until) return null;
  if (!until) throw new Error("Say until which second the part goes.");
  return [Number(from), Number(until)];
};
const subtitles = async () => {
  const [file] = byId("subtitles").files;
  if (!file) return null;
  try {
    return { name: file.name, text: new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()) };
  } catch {
    throw new Error(`${file.name} cannot be read as UTF-8: convert it, for instance with iconv.`);
  }
};
// What is set stays set for the next question, so that it is told where it is folded away.
const tellPart = () => {
  const [from, until] = ["from", "until"].map((id) => byId(id).value);
  const seconds = from || until ? `Seconds ${from || 0} to ${until || "..."}` : "Part of the video";
  const file = byId("subtitles-line").hidden ? [] : [byId("subtitles").files[0]?.name ?? "subtitles"];
  byId("part").textContent = [seconds, ...file].join(", ");
};
for (const id of ["from", "until", "subtitles"]) byId(id).addEventListener("input", tellPart);
byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (asking && byId("send").disabled) return;
  if (!player.current) {
    fail("Choose a video first.");
    byId("video").focus();
    return;
  }
  if (!question) return;
  const video = player.current.id;
  try {
    put({ video, question, options: options().length ? options() : null, span: span(), subtitles: await subtitles() });
  } catch (error) {
    fail(error.message);
  }
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("ask").requestSubmit();
});
byId("stop").addEventListener("click", () => asking?.abort());

// The key, where the server demands one

const lock = () => {
  byId("room").hidden = true;
  byId("unlock").hidden = false;
};
const open = async () => {
  const state = await json("/api/state");
  most = state.most_bytes;
  byId("subtitles-line").hidden = !state.takes_subtitles;
  tellPart();
  const { sampler, selection, budget, answerer } = state.parts;
  byId("parts").textContent = `${sampler} → ${selection}, ${budget} frames → ${answerer}`;
  byId("unlock").hidden = true;
  byId("room").hidden = false;
  await refresh();
  const [only, another] = videos.keys();
  if (only && !another) choose(only);
};
byId("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = byId("unlock-told");
  told.hidden = true;
  try {
    await ask("/api/key", posting({ key: byId("key").value }));
    byId("key").value = "";
    await open();
    byId("video").focus();
  } catch (error) {
    told.textContent = error.message;
    told.hidden = false;
  }
});
addEventListener("focus", () => { if (!byId("room").hidden) refresh().catch(() => {}); });

open().catch((error) => {
  if (!byId("unlock").hidden) byId("key").focus();
  else {
    byId("room").hidden = false;
    tell(error.message);
  }
});
