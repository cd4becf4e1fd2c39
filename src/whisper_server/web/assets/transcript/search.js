// Searches the transcript.

import { byId, setText } from "../lib/dom.js";
import { Highlighter } from "./highlighter.js";

export class Search {
  #segmentList;
  #transcript = null;
  #matches = [];
  #current = -1;
  #matchHighlighter = new Highlighter("match");
  #currentHighlighter = new Highlighter("current-match", 1);

  constructor(segmentList) {
    this.#segmentList = segmentList;
    byId("search").addEventListener("input", () => this.refresh());
    byId("search").addEventListener("keydown", (event) => this.#handleKey(event));
  }

  show(transcript) {
    this.#transcript = transcript;
    byId("search").value = "";
    this.refresh();
  }

  refresh() {
    const query = byId("search").value.trim().toLowerCase();
    this.#matchHighlighter.clear();
    this.#currentHighlighter.clear();
    this.#matches = query ? this.#transcript.segments.flatMap(({ text }, index) => findMatches(text, query, index)) : [];
    for (const { index, at } of this.#matches) this.#matchHighlighter.add(this.#segmentList.textNode(index), at, query.length);
    this.#current = -1;
    setText("match-count", query ? `${this.#matches.length || "none"}` : "");
    if (this.#matches.length) this.#select(0);
  }

  #handleKey(event) {
    if (event.key === "Enter" && this.#matches.length) {
      event.preventDefault();
      this.#select(this.#current + (event.shiftKey ? -1 : 1));
    } else if (event.key === "Escape") {
      byId("search").value = "";
      this.refresh();
      byId("search").blur();
    }
    event.stopPropagation();
  }

  /** Select a match; the count wraps around at both ends. */
  #select(number) {
    this.#current = (number + this.#matches.length) % this.#matches.length;
    const { index, at } = this.#matches[this.#current];
    this.#currentHighlighter.replace(this.#segmentList.textNode(index), at, byId("search").value.trim().length);
    this.#segmentList.scrollTo(index);
    setText("match-count", `${this.#current + 1} of ${this.#matches.length}`);
  }
}

function findMatches(text, query, index) {
  const matches = [];
  const lower = text.toLowerCase();
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, at + query.length)) matches.push({ index, at });
  return matches;
}
