// Plays the recording and reports the position.

import { byId } from "../lib/dom.js";
import { clock } from "../lib/format.js";
import { Waveform, computePeaks } from "./waveform.js";

export class Player {
  #audio = byId("audio");
  #waveform = new Waveform(byId("waveform"));
  #objectUrl = "";
  #onTime;
  #segments = [];
  #duration = 0;

  /** `onTime(seconds)` is called for each frame during playback and after each seek. */
  constructor(onTime) {
    this.#onTime = onTime;
    const audio = this.#audio;
    byId("play").addEventListener("click", () => this.toggle());
    byId("seek").addEventListener("input", ({ target }) => this.seek(Number(target.value)));
    byId("playback-rate").addEventListener("change", ({ target }) => (audio.playbackRate = Number(target.value)));
    for (const type of ["play", "pause", "ended"]) audio.addEventListener(type, () => this.#showState());
    for (const type of ["seeked", "timeupdate"]) audio.addEventListener(type, () => this.#reportTime());
    audio.addEventListener("durationchange", () => this.#showDuration());
    audio.addEventListener("error", () => (byId("player").hidden = true));
  }

  /** `source` is a Blob, a URL, or null if there is no recording. */
  load(source) {
    this.#audio.pause();
    if (this.#objectUrl) URL.revokeObjectURL(this.#objectUrl);
    this.#objectUrl = source instanceof Blob ? URL.createObjectURL(source) : "";
    byId("player").hidden = !source;
    this.#segments = [];
    this.#duration = 0;
    this.#waveform.show({ peaks: null, segments: [], duration: 0 });
    if (!source) return this.#audio.removeAttribute("src");
    this.#audio.src = this.#objectUrl || source;
    this.#audio.playbackRate = Number(byId("playback-rate").value);
    this.#showPosition(0);
    if (source instanceof Blob) this.#audio.addEventListener("loadedmetadata", () => this.#loadPeaks(source), { once: true });
  }

  get loaded() {
    return this.#audio.hasAttribute("src");
  }

  get playing() {
    return !this.#audio.paused;
  }

  set segments(segments) {
    this.#segments = segments;
    this.#showDuration();
  }

  toggle() {
    if (this.#audio.paused) this.#play();
    else this.#audio.pause();
  }

  seek(seconds, { play = false } = {}) {
    if (!this.loaded) return;
    this.#audio.currentTime = Math.max(0, seconds);
    this.#reportTime();
    if (play && this.#audio.paused) this.#play();
  }

  skip(seconds) {
    this.seek(this.#audio.currentTime + seconds);
  }

  pause() {
    this.#audio.pause();
  }

  /** A pause before playback has started raises an AbortError. */
  #play() {
    this.#audio.play().catch((error) => {
      if (error.name !== "AbortError") byId("player").hidden = true;
    });
  }

  async #loadPeaks(blob) {
    const url = this.#objectUrl;
    const peaks = await computePeaks(blob, this.#audio.duration);
    if (url === this.#objectUrl) this.#waveform.show({ peaks });
  }

  /** Recordings without a known duration end with their last segment. */
  #showDuration() {
    const { duration } = this.#audio;
    this.#duration = Number.isFinite(duration) ? duration : (this.#segments.at(-1)?.end ?? 0);
    byId("seek").max = this.#duration || 1;
    this.#waveform.show({ segments: this.#segments, duration: this.#duration });
    this.#showPosition(this.#audio.currentTime);
  }

  #showState() {
    byId("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    byId("play").classList.toggle("playing", this.playing);
    if (this.playing) this.#onFrame();
  }

  #onFrame() {
    this.#reportTime();
    if (this.playing) requestAnimationFrame(() => this.#onFrame());
  }

  #reportTime() {
    this.#showPosition(this.#audio.currentTime);
    this.#onTime(this.#audio.currentTime);
  }

  #showPosition(seconds) {
    const [position, duration] = [clock(seconds), clock(this.#duration)];
    if (byId("player-clock").textContent !== `${position} / ${duration}`) {
      byId("player-clock").textContent = `${position} / ${duration}`;
      byId("seek").setAttribute("aria-valuetext", `${position} of ${duration}`);
    }
    byId("seek").value = seconds;
    this.#waveform.show({ position: seconds });
  }
}
