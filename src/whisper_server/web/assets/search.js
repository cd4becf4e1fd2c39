// Finds text in a transcript.

import { byId, say } from "./element.js";
import { Highlighter } from "./highlights.js";

export class Search {
  #reader;
  #transcript = null;
  #places = [];
  #at = -1;
  #all = new Highlighter("found");
  #one = new Highlighter("found-one", 1);

  constructor(reader) {
    this.#reader = reader;
    byId("search").addEventListener("input", () => this.refresh());
    byId("search").addEventListener("keydown", (event) => this.#key(event));
  }

  show(transcript) {
    this.#transcript = transcript;
    byId("search").value = "";
    this.refresh();
  }

  refresh() {
    const wanted = byId("search").value.trim().toLowerCase();
    this.#all.clear();
    this.#one.clear();
    this.#places = wanted ? this.#transcript.segments.flatMap(({ text }, index) => places(text, wanted, index)) : [];
    for (const { index, at } of this.#places) this.#all.add(this.#reader.node(index), at, wanted.length);
    this.#at = -1;
    say("found", wanted ? `${this.#places.length || "none"}` : "");
    if (this.#places.length) this.#go(0);
  }

  #key(event) {
    if (event.key === "Enter" && this.#places.length) {
      event.preventDefault();
      this.#go(this.#at + (event.shiftKey ? -1 : 1));
    } else if (event.key === "Escape") {
      byId("search").value = "";
      this.refresh();
      byId("search").blur();
    }
    event.stopPropagation();
  }

  #go(to) {
    this.#at = (to + this.#places.length) % this.#places.length;
    const { index, at } = this.#places[this.#at];
    this.#one.only(this.#reader.node(index), at, byId("search").value.trim().length);
    this.#reader.reveal(index);
    say("found", `${this.#at + 1} of ${this.#places.length}`);
  }
}

function places(text, wanted, index) {
  const found = [];
  const lower = text.toLowerCase();
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, at + wanted.length)) found.push({ index, at });
  return found;
}
