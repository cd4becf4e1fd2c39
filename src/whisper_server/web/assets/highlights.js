// Words that stand out without an element of their own, so that a long transcript stays light (CSS highlights).

/** Browsers without them show the segment that is spoken, but no single words. */
export class Highlighter {
  #highlight = null;

  /** `name` is that of `::highlight(name)` in page.css; the highlight of a higher priority lies above. */
  constructor(name, priority = 0) {
    if (!globalThis.CSS?.highlights) return;
    this.#highlight = new Highlight();
    this.#highlight.priority = priority;
    CSS.highlights.set(name, this.#highlight);
  }

  clear() {
    this.#highlight?.clear();
  }

  /** Return what takes it away again. */
  add(node, at, length) {
    if (!this.#highlight || !node || at + length > node.length) return () => {};
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + length);
    this.#highlight.add(range);
    return () => this.#highlight.delete(range);
  }

  only(node, at, length) {
    this.clear();
    this.add(node, at, length);
  }
}
