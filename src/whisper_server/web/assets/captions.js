// Live words: confirmed ones stay, pending ones may still change. Follows the newest unless somebody scrolls up.

import { byId, element, say } from "./element.js";

const NEAR = 40;

export class Captions {
  #box = byId("captions");
  #following = true;

  constructor() {
    this.#box.addEventListener("scroll", () => {
      this.#following = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < NEAR;
    });
  }

  clear() {
    byId("finals").replaceChildren();
    this.partial({ confirmed: "", pending: "" });
    this.#following = true;
  }

  partial({ confirmed, pending }) {
    say("confirmed", confirmed);
    say("pending", pending);
    this.#follow();
  }

  final({ text }) {
    if (text.trim()) byId("finals").append(element("p", { dir: "auto" }, text.trim()));
    this.partial({ confirmed: "", pending: "" });
  }

  #follow() {
    if (this.#following) this.#box.scrollTop = this.#box.scrollHeight;
  }
}
