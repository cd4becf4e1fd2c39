// The segments on the page: each a time and a text, which can be clicked, walked through and edited.

import { element } from "./element.js";
import { Highlighter } from "./highlights.js";
import { clock } from "./numbers.js";

// Below it a word is dotted, for it may be wrong. Without words a whole segment is, by the mean of its tokens.
const UNSURE = 0.35;
const UNSURE_SEGMENT = Math.log(0.45);

export class Reader {
  #list;
  #transcript = null;
  #current = -1;
  #tabbable = null;
  #editing = false;
  #spoken = new Highlighter("spoken", 2);
  #unsure = new Highlighter("unsure");
  #unmark = [];
  #jump;
  #edited;

  /** `jump(seconds)` is called for a click on a word or a time, `edited()` after a change. */
  constructor(list, { jump, edited }) {
    this.#list = list;
    this.#jump = jump;
    this.#edited = edited;
    list.addEventListener("click", (event) => this.#click(event));
    list.addEventListener("dblclick", (event) => this.#startEditing(event));
    list.addEventListener("focusout", (event) => this.#keep(event.target));
    list.addEventListener("keydown", (event) => this.#key(event));
  }

  show(transcript) {
    this.#transcript = transcript;
    this.#current = -1;
    this.#tabbable = null;
    this.#editing = false;
    this.#unmark = [];
    this.#spoken.clear();
    this.#unsure.clear();
    this.#list.replaceChildren();
    this.setLanguage();
    this.append(0);
  }

  setLanguage() {
    if (this.#transcript.textLanguage) this.#list.lang = this.#transcript.textLanguage;
    else this.#list.removeAttribute("lang");
  }

  /** Show the segments from that one on. */
  append(from) {
    const items = document.createDocumentFragment();
    this.#transcript.segments.slice(from).forEach((segment) => items.append(item(segment, this.#editing)));
    this.#list.append(items);
    for (let i = from; i < this.#transcript.segments.length; i += 1) this.#markUnsure(i);
    if (!this.#tabbable) this.#makeTabbable(this.#list.firstElementChild);
  }

  /** The times have come, or texts have changed. */
  refresh() {
    this.setLanguage();
    const { segments } = this.#transcript;
    if (this.#list.children.length > segments.length) return this.show(this.#transcript);
    this.append(this.#list.children.length);
    segments.forEach((segment, i) => {
      const { firstElementChild: time, lastElementChild: text } = this.#list.children[i];
      if (time.textContent !== clock(segment.start)) time.textContent = clock(segment.start);
      if (text.textContent !== segment.text) text.textContent = segment.text;
      this.#markUnsure(i);
    });
  }

  get current() {
    return this.#current;
  }

  /** The text node of a segment. */
  node(index) {
    return this.#list.children[index]?.lastElementChild.firstChild ?? null;
  }

  /** Show what is spoken: a segment and maybe a word of it. */
  speak(index, word, { follow }) {
    if (index !== this.#current) {
      this.#list.children[this.#current]?.removeAttribute("aria-current");
      this.#current = index;
      const item = this.#list.children[index];
      item?.setAttribute("aria-current", "true");
      if (item) this.#makeTabbable(item);
      if (item && follow) this.reveal(index);
    }
    if (word) this.#spoken.only(this.node(index), word.at, word.length);
    else this.#spoken.clear();
  }

  reveal(index) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#list.children[index]?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  }

  get editing() {
    return this.#editing;
  }

  set editing(on) {
    this.#editing = on;
    for (const item of this.#list.children) editable(item.lastElementChild, on);
  }

  #click(event) {
    const found = this.#place(event.target);
    if (!found) return;
    if (event.target.closest("button")) this.#jump(found.segment.start);
    else if (!this.#editing && getSelection().isCollapsed) this.#jump(this.#clicked(event, found) ?? found.segment.start);
  }

  /** The start of the word that was clicked. */
  #clicked({ clientX, clientY }, { segment }) {
    const caret = document.caretPositionFromPoint?.(clientX, clientY);
    const offset = caret ? caret.offset : document.caretRangeFromPoint?.(clientX, clientY)?.startOffset;
    return segment.words.findLast(({ at }) => at <= offset)?.start;
  }

  #startEditing(event) {
    const text = event.target.closest("p");
    if (!text || this.#editing) return;
    editable(text, true);
    text.focus();
  }

  #keep(text) {
    const found = text.matches("p[contenteditable]") && this.#place(text);
    if (!found) return;
    this.#transcript.edit(found.index, text.textContent);
    text.textContent = found.segment.text;
    if (!this.#editing) editable(text, false);
    this.#markUnsure(found.index);
    this.#edited();
  }

  #key(event) {
    if (event.target.matches("p[contenteditable]")) {
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        if (event.key === "Escape") event.target.textContent = this.#place(event.target).segment.text;
        event.target.blur();
      }
      event.stopPropagation();
    }
  }

  /** Move the keyboard's focus by so many segments. */
  step(by) {
    const at = this.#place(document.activeElement)?.index ?? this.#current;
    const item = this.#list.children[Math.min(Math.max(at + by, 0), this.#list.children.length - 1)];
    if (!item) return;
    this.#makeTabbable(item);
    item.firstElementChild.focus();
  }

  #makeTabbable(item) {
    if (this.#tabbable) this.#tabbable.firstElementChild.tabIndex = -1;
    if (item) item.firstElementChild.tabIndex = 0;
    this.#tabbable = item;
  }

  #place(target) {
    const item = target.closest?.("li");
    if (item?.parentElement !== this.#list) return null;
    const index = [...this.#list.children].indexOf(item);
    return { index, segment: this.#transcript.segments[index] };
  }

  #markUnsure(index) {
    const { text, words, logprob, heard } = this.#transcript.segments[index];
    for (const unmark of this.#unmark[index] ?? []) unmark();
    const scored = words.filter(({ probability }) => probability !== null);
    const whole = !scored.length && text === heard && logprob !== null && logprob < UNSURE_SEGMENT;
    const marks = whole ? [{ at: 0, length: text.length }] : scored.filter(({ probability }) => probability < UNSURE);
    this.#unmark[index] = marks.map(({ at, length }) => this.#unsure.add(this.node(index), at, length));
  }
}

function item({ start, speaker, text }, editing) {
  const shown = element("p", { dir: "auto" }, text);
  editable(shown, editing);
  const time = element("button", { type: "button", class: "time", tabindex: -1, title: "Play from here" }, clock(start));
  return element("li", {}, time, ...(speaker ? [element("span", { class: "speaker" }, speaker)] : []), shown);
}

function editable(text, on) {
  if (!on) {
    for (const name of ["contenteditable", "role", "aria-label", "tabindex"]) text.removeAttribute(name);
    return;
  }
  text.setAttribute("contenteditable", "plaintext-only");
  if (!text.isContentEditable) text.setAttribute("contenteditable", "true"); // Firefox before 136
  text.setAttribute("role", "textbox");
  text.setAttribute("aria-label", "Text of the segment");
  text.tabIndex = 0;
}
