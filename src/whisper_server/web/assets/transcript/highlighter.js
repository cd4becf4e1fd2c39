// Highlights words through the CSS Custom Highlight API, without an element for each word, so that long transcripts stay fast.

/** Does nothing in browsers without the API. */
export class Highlighter {
  #highlight = null;

  /** page.css styles `::highlight(name)`; a higher priority is painted on top. */
  constructor(name, priority = 0) {
    if (!globalThis.CSS?.highlights) return;
    this.#highlight = new Highlight();
    this.#highlight.priority = priority;
    CSS.highlights.set(name, this.#highlight);
  }

  clear() {
    this.#highlight?.clear();
  }

  /** Return a function that removes the highlight again. */
  add(node, at, length) {
    if (!this.#highlight || !node || at + length > node.length) return () => {};
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + length);
    this.#highlight.add(range);
    return () => this.#highlight.delete(range);
  }

  replace(node, at, length) {
    this.clear();
    this.add(node, at, length);
  }
}
