// Plays the recording and tells what is spoken.

import { byId } from "./element.js";
import { clock } from "./numbers.js";
import { Waveform, peaksOf } from "./waveform.js";

export class Player {
  #audio = byId("audio");
  #wave = new Waveform(byId("wave"));
  #url = "";
  #heard;
  #segments = [];
  #seconds = 0;

  /** `heard(seconds)` is called at each frame while it plays, and after each jump. */
  constructor(heard) {
    this.#heard = heard;
    const audio = this.#audio;
    byId("play").addEventListener("click", () => this.toggle());
    byId("seek").addEventListener("input", ({ target }) => this.jump(Number(target.value)));
    byId("rate").addEventListener("change", ({ target }) => (audio.playbackRate = Number(target.value)));
    for (const type of ["play", "pause", "ended"]) audio.addEventListener(type, () => this.#showState());
    for (const type of ["seeked", "timeupdate"]) audio.addEventListener(type, () => this.#tell());
    audio.addEventListener("durationchange", () => this.#showDuration());
    audio.addEventListener("error", () => (byId("player").hidden = true));
  }

  /** `sound` is a Blob, an address, or null if the recording is not here. */
  load(sound) {
    this.#audio.pause();
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = sound instanceof Blob ? URL.createObjectURL(sound) : "";
    byId("player").hidden = !sound;
    this.#segments = [];
    this.#seconds = 0;
    this.#wave.peaks = null;
    this.#wave.setSegments([], 0);
    if (!sound) return this.#audio.removeAttribute("src");
    this.#audio.src = this.#url || sound;
    this.#audio.playbackRate = Number(byId("rate").value);
    this.#showPosition(0);
    if (sound instanceof Blob) this.#audio.addEventListener("loadedmetadata", () => this.#measure(sound), { once: true });
  }

  get loaded() {
    return this.#audio.hasAttribute("src");
  }

  get playing() {
    return !this.#audio.paused;
  }

  get time() {
    return this.#audio.currentTime;
  }

  set segments(segments) {
    this.#segments = segments;
    this.#showDuration();
  }

  toggle() {
    if (this.#audio.paused) this.#start();
    else this.#audio.pause();
  }

  jump(seconds, { play = false } = {}) {
    if (!this.loaded) return;
    this.#audio.currentTime = Math.max(0, seconds);
    this.#tell();
    if (play && this.#audio.paused) this.#start();
  }

  skip(seconds) {
    this.jump(this.#audio.currentTime + seconds);
  }

  stop() {
    this.#audio.pause();
  }

  /** It may be asked to stop before it has begun. */
  #start() {
    this.#audio.play().catch((error) => {
      if (error.name !== "AbortError") byId("player").hidden = true;
    });
  }

  async #measure(blob) {
    const url = this.#url;
    const peaks = await peaksOf(blob, this.#audio.duration);
    if (url === this.#url) this.#wave.peaks = peaks;
  }

  #showDuration() {
    const { duration } = this.#audio;
    const last = this.#segments.at(-1)?.end ?? 0;
    this.#seconds = Number.isFinite(duration) ? duration : last;
    byId("seek").max = this.#seconds || 1;
    this.#wave.setSegments(this.#segments, this.#seconds);
    this.#showPosition(this.#audio.currentTime);
  }

  #showState() {
    const playing = this.playing;
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    byId("play").classList.toggle("playing", playing);
    if (playing) this.#frame();
  }

  #frame() {
    this.#tell();
    if (this.playing) requestAnimationFrame(() => this.#frame());
  }

  #tell() {
    this.#showPosition(this.#audio.currentTime);
    this.#heard(this.#audio.currentTime);
  }

  #showPosition(seconds) {
    const shown = `${clock(seconds)} / ${clock(this.#seconds)}`;
    if (byId("clock").textContent !== shown) {
      byId("clock").textContent = shown;
      byId("seek").setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(this.#seconds)}`);
    }
    byId("seek").value = seconds;
    this.#wave.played = seconds;
  }
}
