// The page of one transcript: what is played, read, searched, edited and saved.

import { copyAndSay } from "./clipboard.js";
import { saveAs, stem } from "./download.js";
import { byId, say } from "./element.js";
import { FORMATS } from "./formats.js";
import { Player } from "./player.js";
import { Reader } from "./reader.js";
import { Search } from "./search.js";
import { lastBefore } from "./timing.js";

// After somebody has scrolled, the page does not scroll by itself for so many milliseconds.
const PATIENCE = 4000;

export class Desk {
  #transcript = null;
  #sound = null;
  #scrolled = -PATIENCE;
  #player = new Player((seconds) => this.#hear(seconds));
  #reader = new Reader(byId("segments"), {
    jump: (seconds) => this.#player.jump(seconds, { play: true }),
    edited: () => this.#search.refresh(),
  });
  #search = new Search(this.#reader);

  constructor() {
    byId("edit").addEventListener("click", () => this.#edit());
    byId("copy").addEventListener("click", () => copyAndSay(this.#transcript.text, byId("copied")));
    byId("sound").addEventListener("click", () => saveAs(`${stem(this.#transcript.name)}.wav`, this.#sound));
    for (const button of document.querySelectorAll("[data-download]")) {
      button.addEventListener("click", () => this.#save(button.dataset.download));
    }
    for (const type of ["wheel", "touchmove"]) {
      addEventListener(type, () => (this.#scrolled = performance.now()), { passive: true });
    }
    addEventListener("keydown", (event) => this.#key(event));
  }

  /** `sound` as of Player.load; `recorded` if it exists only here and can be saved. */
  show(transcript, { sound = null, recorded = false } = {}) {
    this.#transcript = transcript;
    this.#sound = sound;
    say("transcript-title", transcript.name);
    byId("edit").setAttribute("aria-pressed", "false");
    byId("sound").hidden = !recorded;
    this.#player.load(sound);
    this.#reader.show(transcript);
    this.#search.show(transcript);
    this.refresh();
  }

  /** The recording has come. */
  hear(sound) {
    this.#sound = sound;
    this.#player.load(sound);
    this.#showTools();
  }

  /** Segments were added. */
  append(from) {
    this.#reader.append(from);
    this.#showTools();
  }

  /** Times have come. */
  refresh() {
    this.#reader.refresh();
    this.#showTools();
  }

  stop() {
    this.#player.stop();
  }

  #showTools() {
    const some = this.#transcript.segments.length > 0;
    byId("tools").hidden = !some;
    byId("hint").hidden = !some || !this.#player.loaded;
    this.#player.segments = this.#transcript.segments;
  }

  #hear(seconds) {
    const { segments } = this.#transcript;
    const index = lastBefore(segments, seconds + 0.02);
    const words = segments[index]?.words ?? [];
    const word = words[lastBefore(words, seconds + 0.02)];
    const follow = this.#player.playing && !this.#reader.editing && performance.now() - this.#scrolled > PATIENCE;
    this.#reader.speak(index, word && seconds < word.end + 0.4 ? word : null, { follow });
  }

  #edit() {
    const on = !this.#reader.editing;
    this.#reader.editing = on;
    byId("edit").setAttribute("aria-pressed", String(on));
  }

  #save(format) {
    const { type, write } = FORMATS[format];
    saveAs(`${stem(this.#transcript.name)}.${format}`, new Blob([write(this.#transcript)], { type }));
  }

  #key(event) {
    if (byId("transcript").hidden || !this.#transcript || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=range]), select, textarea, [contenteditable]")) return;
    const act = KEYS[event.key];
    if (!act || (event.key === " " && event.target.closest("button:not(.time)"))) return;
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return;
    event.preventDefault();
    act({ player: this.#player, reader: this.#reader, edit: () => this.#edit() });
  }
}

const KEYS = {
  " ": ({ player }) => player.loaded && player.toggle(),
  ArrowLeft: ({ player }) => player.skip(-5),
  ArrowRight: ({ player }) => player.skip(5),
  ArrowUp: ({ reader }) => reader.step(-1),
  ArrowDown: ({ reader }) => reader.step(1),
  e: ({ edit }) => edit(),
  "/": () => byId("search").focus(),
};
