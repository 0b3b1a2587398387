// Shows a video: played by the browser, or picture by picture where the browser cannot play it.
const byId = (id) => document.getElementById(id);

export const clock = (seconds) => {
  const tenths = Math.round(Math.max(seconds, 0) * 10);
  const whole = Math.floor(tenths / 10);
  const two = (count) => String(count).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const text = hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return tenths % 10 ? `${text}.${tenths % 10}` : text;
};

export class Player {
  // `ask` fetches JSON from the server, `tell` says what happened, `moved` is called with the second that is shown.
  constructor(ask, tell, moved) {
    Object.assign(this, { ask, tell, moved, current: null, wanted: null });
    [this.video, this.stills, this.still, this.moment, this.at] = ["player", "stills", "still", "moment", "at"].map(byId);
    this.video.addEventListener("loadedmetadata", () => {
      // Sound alone: the browser knows no codec of the pictures.
      if (!this.video.videoWidth) this.cannotPlay();
      else if (this.wanted !== null) this.video.currentTime = this.wanted;
    });
    this.video.addEventListener("timeupdate", () => moved(this.video.currentTime));
    this.video.addEventListener("error", () => { if (this.video.hasAttribute("src")) this.cannotPlay(); });
    this.still.addEventListener("error", () => this.ask(this.still.src).catch((error) => tell(error.message)));
    this.moment.addEventListener("input", () => this.showStill(Number(this.moment.value), 250));
  }

  show(video) {
    this.current = video;
    this.wanted = null;
    byId("empty").hidden = video !== null;
    byId("empty").textContent = "Choose a video, or drop a file here.";
    this.stills.hidden = true;
    this.still.removeAttribute("src");
    this.video.hidden = video === null;
    this.tell("");
    if (video === null) {
      this.video.removeAttribute("src");
      this.video.load();
    } else {
      this.video.setAttribute("aria-label", video.name);
      this.video.src = `/api/videos/${video.id}/file?version=${video.version}`;
    }
  }

  seek(second) {
    this.wanted = second;
    if (!this.stills.hidden) this.showStill(second, 0);
    else if (this.video.readyState >= 1) {
      this.video.pause();
      this.video.currentTime = second;
    }
    this.moved(second);
  }

  async cannotPlay() {
    const video = this.current;
    this.video.removeAttribute("src");
    this.video.load();
    this.video.hidden = true;
    const empty = byId("empty");
    empty.hidden = false;
    empty.textContent = "Reading the video.";
    try {
      const facts = await this.ask(`/api/videos/${video.id}`);
      if (this.current !== video) return;
      if (facts.version !== video.version) throw new Error(`${video.name} has changed since it was opened: choose it again.`);
      empty.hidden = true;
      this.stills.hidden = false;
      // The last picture begins before the end.
      this.moment.max = Math.max(0, facts.duration - 1 / facts.fps);
      this.tell("This browser cannot play the video, so its frames are shown one by one. Asking works all the same.");
      this.showStill(this.wanted ?? 0, 0);
    } catch (error) {
      if (this.current !== video) return;
      empty.textContent = "This video cannot be shown.";
      this.tell(error.message);
    }
  }

  showStill(second, wait) {
    const video = this.current;
    this.moment.value = second;
    this.at.textContent = clock(second);
    this.moment.setAttribute("aria-valuetext", clock(second));
    this.moved(second);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.still.alt = `Frame at ${clock(second)}`;
      this.still.src = `/api/videos/${video.id}/picture?second=${Math.min(second, Number(this.moment.max))}&version=${video.version}`;
    }, wait);
  }
}
