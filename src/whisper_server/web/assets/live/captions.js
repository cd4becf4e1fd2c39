// Shows live captions and scrolls to the newest words unless the user has scrolled up.

import { byId, element, setText } from "../lib/dom.js";

const BOTTOM_TOLERANCE = 40; // pixels

export class Captions {
  #box = byId("captions");
  #autoScroll = true;

  constructor() {
    this.#box.addEventListener("scroll", () => {
      this.#autoScroll = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < BOTTOM_TOLERANCE;
    });
  }

  clear() {
    byId("final-captions").replaceChildren();
    this.showPartial({ confirmed: "", pending: "" });
    this.#autoScroll = true;
  }

  /** Confirmed words are final; pending ones may still change. */
  showPartial({ confirmed, pending }) {
    setText("confirmed", confirmed);
    setText("pending", pending);
    if (this.#autoScroll) this.#box.scrollTop = this.#box.scrollHeight;
  }

  addFinal({ text }) {
    if (text.trim()) byId("final-captions").append(element("p", { dir: "auto" }, text.trim()));
    this.showPartial({ confirmed: "", pending: "" });
  }
}
