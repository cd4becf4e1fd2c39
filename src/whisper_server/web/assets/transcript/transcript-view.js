// The view of one transcript, with its player, segments, search and downloads.

import { byId, setText } from "../lib/dom.js";
import { copyAndConfirm, saveAs, stem } from "../lib/export.js";
import { Player } from "./player.js";
import { Search } from "./search.js";
import { SegmentList } from "./segment-list.js";
import { FORMATS } from "./transcript.js";

// After the user has scrolled, automatic scrolling pauses for this many milliseconds.
const SCROLL_PAUSE = 4000;
// Seeking may end slightly before the requested time; a word stays highlighted in a short silence. Both in seconds.
const SEEK_TOLERANCE = 0.02;
const WORD_LINGER = 0.4;

export class TranscriptView {
  #transcript = null;
  #recording = null;
  #lastScroll = -SCROLL_PAUSE;
  #player = new Player((seconds) => this.#highlight(seconds));
  #segmentList = new SegmentList(byId("segments"), {
    onSeek: (seconds) => this.#player.seek(seconds, { play: true }),
    onEdit: () => this.#search.refresh(),
  });
  #search = new Search(this.#segmentList);

  constructor() {
    byId("edit").addEventListener("click", () => this.#toggleEditing());
    byId("copy").addEventListener("click", () => copyAndConfirm(this.#transcript.text, byId("copy-label")));
    byId("download-audio").addEventListener("click", () => saveAs(`${stem(this.#transcript.name)}.wav`, this.#recording));
    for (const button of document.querySelectorAll("[data-download]")) {
      button.addEventListener("click", () => this.#download(button.dataset.download));
    }
    for (const type of ["wheel", "touchmove"]) {
      addEventListener(type, () => (this.#lastScroll = performance.now()), { passive: true });
    }
    addEventListener("keydown", (event) => this.#handleKey(event));
  }

  /** `recording` is as in Player.load; it is `downloadable` if it exists only in this tab. */
  show(transcript, { recording = null, downloadable = false } = {}) {
    this.#transcript = transcript;
    this.#recording = recording;
    setText("transcript-title", transcript.name);
    byId("edit").setAttribute("aria-pressed", "false");
    byId("download-audio").hidden = !downloadable;
    this.#player.load(recording);
    this.#segmentList.show(transcript);
    this.#search.show(transcript);
    this.refresh();
  }

  setRecording(recording) {
    this.#recording = recording;
    this.#player.load(recording);
    this.#updateToolbar();
  }

  /** Show segments that were added to the transcript, starting at index `from`. */
  append(from) {
    this.#segmentList.append(from);
    this.#updateToolbar();
  }

  /** Show changes of times and texts. */
  refresh() {
    this.#segmentList.refresh();
    this.#updateToolbar();
  }

  pause() {
    this.#player.pause();
  }

  #updateToolbar() {
    const isEmpty = this.#transcript.segments.length === 0;
    byId("toolbar").hidden = isEmpty;
    byId("shortcuts").hidden = isEmpty || !this.#player.loaded;
    this.#player.segments = this.#transcript.segments;
  }

  #highlight(seconds) {
    const { segments } = this.#transcript;
    const index = segments.findLastIndex(({ start }) => start <= seconds + SEEK_TOLERANCE);
    const words = segments[index]?.words ?? [];
    const word = words.findLast(({ start }) => start <= seconds + SEEK_TOLERANCE);
    const scroll = this.#player.playing && !this.#segmentList.editing && performance.now() - this.#lastScroll > SCROLL_PAUSE;
    this.#segmentList.highlight(index, word && seconds < word.end + WORD_LINGER ? word : null, { scroll });
  }

  #toggleEditing() {
    this.#segmentList.editing = !this.#segmentList.editing;
    byId("edit").setAttribute("aria-pressed", String(this.#segmentList.editing));
  }

  #download(format) {
    const { type, write } = FORMATS[format];
    saveAs(`${stem(this.#transcript.name)}.${format}`, new Blob([write(this.#transcript)], { type }));
  }

  #handleKey(event) {
    if (byId("transcript").hidden || !this.#transcript || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=range]), select, textarea, [contenteditable]")) return;
    const action = TranscriptView.#shortcuts[event.key];
    if (!action || (event.key === " " && event.target.closest("button:not(.time)"))) return;
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return;
    event.preventDefault();
    action(this);
  }

  static #shortcuts = {
    " ": (view) => view.#player.loaded && view.#player.toggle(),
    ArrowLeft: (view) => view.#player.skip(-5),
    ArrowRight: (view) => view.#player.skip(5),
    ArrowUp: (view) => view.#segmentList.moveFocus(-1),
    ArrowDown: (view) => view.#segmentList.moveFocus(1),
    e: (view) => view.#toggleEditing(),
    "/": () => byId("search").focus(),
  };
}
