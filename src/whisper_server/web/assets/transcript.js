// A transcript: segments of text with their times, as the server found them and as somebody has edited them.

import { dealt, placed, retimed } from "./timing.js";

export class Transcript {
  constructor({ name, language = null, translated = false, edits = null }) {
    this.name = name;
    this.language = language;
    this.translated = translated;
    this.segments = [];
    this.edits = edits;
  }

  /** Of the text, which is English when it is a translation. */
  get textLanguage() {
    return this.translated ? "en" : this.language;
  }

  get duration() {
    return this.segments.at(-1)?.end ?? 0;
  }

  get text() {
    return this.segments.map(({ text }) => text).join(" ");
  }

  /** Take a segment of the server's; its words, if it has some, are its own. `speaker` is for results that know them. */
  add({ start, end, text, words = [], avg_logprob = null, speaker = null }) {
    const heard = text.trim();
    const segment = { start, end, heard, text: heard, words: placed(words, heard), logprob: avg_logprob, speaker };
    this.segments.push(segment);
    this.#restore(this.segments.length - 1);
    return segment;
  }

  /** Take the times that came with the end: `words` of the whole file, in order. */
  time(segments, words) {
    const own = dealt(words, segments.map(({ text }) => text.trim()));
    segments.forEach((found, i) => {
      const segment = this.segments[i] ?? this.add(found);
      Object.assign(segment, { start: found.start, end: found.end, logprob: found.avg_logprob ?? null, words: own[i] });
      if (segment.heard !== segment.text) segment.words = retimed(own[i], segment.heard, segment.text, segment);
    });
  }

  edit(index, text) {
    const segment = this.segments[index];
    const changed = text.replace(/\s+/g, " ").trim();
    if (changed === segment.text) return;
    if (segment.words.length) segment.words = retimed(segment.words, segment.text, changed, segment);
    segment.text = changed;
    this.edits?.set(index, changed === segment.heard ? null : changed);
  }

  asJson() {
    const segments = this.segments.map(({ start, end, text, words, speaker }, id) => ({
      id,
      start,
      end,
      text,
      ...(speaker ? { speaker } : {}),
      ...(words.length ? { words: words.map((word) => spoken(word, text)) } : {}),
    }));
    return { text: this.text, segments, language: this.language };
  }

  #restore(index) {
    const edited = this.edits?.get(index);
    if (typeof edited === "string") this.segments[index].text = edited;
  }
}

function spoken({ start, end, probability, at, length }, text) {
  return { word: text.slice(at, at + length), start, end, ...(probability === null ? {} : { probability }) };
}
