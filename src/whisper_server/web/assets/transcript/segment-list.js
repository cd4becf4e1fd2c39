// The list of segments, each with its start time and its text, to be played and edited.

import { element } from "../lib/dom.js";
import { clock } from "../lib/format.js";
import { Highlighter } from "./highlighter.js";

// Words with a lower probability are underlined. Without words, segments with a lower mean token probability are.
const LOW_CONFIDENCE = 0.35;
const LOW_SEGMENT_LOGPROB = Math.log(0.45);

export class SegmentList {
  #list;
  #transcript = null;
  #current = -1;
  #tabStop = null;
  #editing = false;
  #wordHighlighter = new Highlighter("current-word", 2);
  #confidenceHighlighter = new Highlighter("low-confidence");
  #removers = [];
  #onSeek;
  #onEdit;

  /** `onSeek(seconds)` is called for a click on a word or a time, `onEdit()` after an edit. */
  constructor(list, { onSeek, onEdit }) {
    this.#list = list;
    this.#onSeek = onSeek;
    this.#onEdit = onEdit;
    list.addEventListener("click", (event) => this.#handleClick(event));
    list.addEventListener("dblclick", (event) => this.#startEditing(event));
    list.addEventListener("focusout", (event) => this.#saveEdit(event.target));
    list.addEventListener("keydown", (event) => this.#handleKey(event));
  }

  show(transcript) {
    this.#transcript = transcript;
    this.#current = -1;
    this.#tabStop = null;
    this.#editing = false;
    this.#removers = [];
    this.#wordHighlighter.clear();
    this.#confidenceHighlighter.clear();
    this.#list.replaceChildren();
    this.#setLanguage();
    this.append(0);
  }

  /** Show the segments from this index on. */
  append(from) {
    const rows = this.#transcript.segments.slice(from).map((segment) => segmentRow(segment, this.#editing));
    this.#list.append(...rows);
    rows.forEach((row, i) => this.#highlightLowConfidence(from + i));
    if (!this.#tabStop) this.#setTabStop(this.#list.firstElementChild);
  }

  /** Show changes of times, texts and the language. */
  refresh() {
    this.#setLanguage();
    const { segments } = this.#transcript;
    if (this.#list.children.length > segments.length) return this.show(this.#transcript);
    this.append(this.#list.children.length);
    segments.forEach((segment, i) => {
      const { firstElementChild: time, lastElementChild: text } = this.#list.children[i];
      if (time.textContent !== clock(segment.start)) time.textContent = clock(segment.start);
      if (text.textContent !== segment.text) text.textContent = segment.text;
      this.#highlightLowConfidence(i);
    });
  }

  /** The text node of a segment. */
  textNode(index) {
    return this.#list.children[index]?.lastElementChild.firstChild ?? null;
  }

  /** Highlight the segment that is playing, and a word of it unless that is null. */
  highlight(index, word, { scroll }) {
    if (index !== this.#current) {
      this.#list.children[this.#current]?.removeAttribute("aria-current");
      this.#current = index;
      const row = this.#list.children[index];
      row?.setAttribute("aria-current", "true");
      if (row) this.#setTabStop(row);
      if (row && scroll) this.scrollTo(index);
    }
    if (word) this.#wordHighlighter.replace(this.textNode(index), word.at, word.length);
    else this.#wordHighlighter.clear();
  }

  scrollTo(index) {
    const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#list.children[index]?.scrollIntoView({ block: "nearest", behavior: reducedMotion ? "auto" : "smooth" });
  }

  get editing() {
    return this.#editing;
  }

  set editing(editing) {
    this.#editing = editing;
    for (const row of this.#list.children) setEditable(row.lastElementChild, editing);
  }

  /** Move the keyboard focus by this many segments. */
  moveFocus(offset) {
    const index = (this.#find(document.activeElement)?.index ?? this.#current) + offset;
    const row = this.#list.children[Math.min(Math.max(index, 0), this.#list.children.length - 1)];
    if (!row) return;
    this.#setTabStop(row);
    row.firstElementChild.focus();
  }

  #setLanguage() {
    if (this.#transcript.textLanguage) this.#list.lang = this.#transcript.textLanguage;
    else this.#list.removeAttribute("lang");
  }

  #handleClick(event) {
    const { segment } = this.#find(event.target) ?? {};
    if (!segment) return;
    if (event.target.closest("button")) this.#onSeek(segment.start);
    else if (!this.#editing && getSelection().isCollapsed) this.#onSeek(startOfClickedWord(event, segment) ?? segment.start);
  }

  #startEditing(event) {
    const text = event.target.closest("p");
    if (!text || this.#editing) return;
    setEditable(text, true);
    text.focus();
  }

  #saveEdit(text) {
    const edited = text.matches("p[contenteditable]") && this.#find(text);
    if (!edited) return;
    this.#transcript.edit(edited.index, text.textContent);
    text.textContent = edited.segment.text;
    if (!this.#editing) setEditable(text, false);
    this.#highlightLowConfidence(edited.index);
    this.#onEdit();
  }

  #handleKey(event) {
    if (!event.target.matches("p[contenteditable]")) return;
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      if (event.key === "Escape") event.target.textContent = this.#find(event.target).segment.text;
      event.target.blur();
    }
    event.stopPropagation();
  }

  #setTabStop(row) {
    if (this.#tabStop) this.#tabStop.firstElementChild.tabIndex = -1;
    if (row) row.firstElementChild.tabIndex = 0;
    this.#tabStop = row;
  }

  /** The segment that an element belongs to and its index, or null. */
  #find(target) {
    const row = target.closest?.("li");
    if (row?.parentElement !== this.#list) return null;
    const index = [...this.#list.children].indexOf(row);
    return { index, segment: this.#transcript.segments[index] };
  }

  #highlightLowConfidence(index) {
    const { text, words, logprob, original } = this.#transcript.segments[index];
    for (const remove of this.#removers[index] ?? []) remove();
    const scored = words.filter(({ probability }) => probability !== null);
    const wholeSegment = !scored.length && text === original && logprob !== null && logprob < LOW_SEGMENT_LOGPROB;
    const ranges = wholeSegment ? [{ at: 0, length: text.length }] : scored.filter(({ probability }) => probability < LOW_CONFIDENCE);
    this.#removers[index] = ranges.map(({ at, length }) => this.#confidenceHighlighter.add(this.textNode(index), at, length));
  }
}

function startOfClickedWord({ clientX, clientY }, { words }) {
  const caret = document.caretPositionFromPoint?.(clientX, clientY);
  const offset = caret ? caret.offset : document.caretRangeFromPoint?.(clientX, clientY)?.startOffset;
  return words.findLast(({ at }) => at <= offset)?.start;
}

function segmentRow({ start, speaker, text }, editing) {
  const paragraph = element("p", { dir: "auto" }, text);
  setEditable(paragraph, editing);
  const time = element("button", { type: "button", class: "time", tabindex: -1, title: "Play from here" }, clock(start));
  return element("li", {}, time, ...(speaker ? [element("span", { class: "speaker" }, speaker)] : []), paragraph);
}

const EDITABLE = { contenteditable: "plaintext-only", role: "textbox", "aria-label": "Segment text", tabindex: 0 };

function setEditable(paragraph, editable) {
  for (const [name, value] of Object.entries(EDITABLE)) {
    if (editable) paragraph.setAttribute(name, value);
    else paragraph.removeAttribute(name);
  }
  if (editable && !paragraph.isContentEditable) paragraph.contentEditable = "true"; // Firefox before 136
}
