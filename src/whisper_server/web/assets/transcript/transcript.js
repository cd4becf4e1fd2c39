// A transcript: timed segments of text, as the server recognised them and as the user edited them.

import { timestamp } from "../lib/format.js";
import { locateWords, retimeWords, wordsOfSegments } from "./word-timing.js";

export class Transcript {
  constructor({ name, language = null, translated = false, edits = null }) {
    this.name = name;
    this.language = language;
    this.translated = translated;
    this.segments = [];
    this.edits = edits;
  }

  /** The language of the text, which is English if the speech was translated. */
  get textLanguage() {
    return this.translated ? "en" : this.language;
  }

  get duration() {
    return this.segments.at(-1)?.end ?? 0;
  }

  get text() {
    return this.segments.map(({ text }) => text).join(" ");
  }

  /** Add a segment of the server and apply the user's edit of it. `speaker` is for results with speaker labels. */
  add({ start, end, text, words = [], avg_logprob = null, speaker = null }) {
    const original = text.trim();
    const edited = this.edits?.get(this.segments.length);
    const segment = { start, end, original, text: original, words: locateWords(words, original), logprob: avg_logprob, speaker };
    if (typeof edited === "string") segment.text = edited;
    this.segments.push(segment);
    return segment;
  }

  /** Set the final times; `words` are those of the whole file, in order. */
  setTimes(segments, words) {
    const segmentWords = wordsOfSegments(words, segments.map(({ text }) => text.trim()));
    segments.forEach((final, i) => {
      const segment = this.segments[i] ?? this.add(final);
      Object.assign(segment, { start: final.start, end: final.end, logprob: final.avg_logprob ?? null, words: segmentWords[i] });
      if (segment.original !== segment.text) segment.words = retimeWords(segmentWords[i], segment.original, segment.text, segment);
    });
  }

  edit(index, text) {
    const segment = this.segments[index];
    const edited = text.replace(/\s+/g, " ").trim();
    if (edited === segment.text) return;
    if (segment.words.length) segment.words = retimeWords(segment.words, segment.text, edited, segment);
    segment.text = edited;
    this.edits?.set(index, edited === segment.original ? null : edited);
  }

  toJson() {
    // JSON leaves out what is undefined.
    const segments = this.segments.map(({ start, end, text, words, speaker }, id) => {
      const jsonWords = words.length ? words.map((word) => wordToJson(word, text)) : undefined;
      return { id, start, end, text, speaker: speaker || undefined, words: jsonWords };
    });
    return { text: this.text, segments, language: this.language };
  }
}

function wordToJson({ start, end, probability, at, length }, text) {
  return { word: text.slice(at, at + length), start, end, probability: probability ?? undefined };
}

/** Files with the same layout as the server's response_format. */
export const FORMATS = {
  txt: { type: "text/plain", write: ({ segments }) => segments.map(({ text }) => `${text.trim()}\n`).join("") },
  srt: { type: "application/x-subrip", write: ({ segments }) => segments.map((segment, i) => `${i + 1}\n${cue(segment, ",", true)}`).join("") },
  vtt: { type: "text/vtt", write: ({ segments }) => "WEBVTT\n\n" + segments.map((segment) => cue(segment, ".", false)).join("") },
  tsv: { type: "text/tab-separated-values", write: ({ segments }) => "start\tend\ttext\n" + segments.map(row).join("") },
  json: { type: "application/json", write: (transcript) => JSON.stringify(transcript.toJson(), null, 2) + "\n" },
};

function cue({ start, end, text }, decimalMark, alwaysHours) {
  const times = [start, end].map((seconds) => timestamp(seconds, decimalMark, alwaysHours));
  return `${times.join(" --> ")}\n${text.trim().replaceAll("-->", "->")}\n\n`;
}

function row({ start, end, text }) {
  return `${Math.round(start * 1000)}\t${Math.round(end * 1000)}\t${text.trim().replaceAll("\t", " ")}\n`;
}

const storageName = (job) => `whisper-server:edits:${job}`;

/** The edited segments of a job, kept in this browser until the job is deleted. */
export class Edits {
  #job;
  #texts;

  constructor(job) {
    this.#job = job;
    this.#texts = JSON.parse(localStorage.getItem(storageName(job)) ?? "{}");
  }

  get(index) {
    return this.#texts[index];
  }

  /** null restores the server's text. */
  set(index, text) {
    if (text === null) delete this.#texts[index];
    else this.#texts[index] = text;
    localStorage.setItem(storageName(this.#job), JSON.stringify(this.#texts));
  }

  static forget(job) {
    localStorage.removeItem(storageName(job));
  }
}
