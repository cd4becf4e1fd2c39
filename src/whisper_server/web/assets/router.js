// Which page is shown: the part of the address after its #.

import { byId } from "./element.js";

const VIEWS = ["files", "transcript", "live", "developers"];

/** `opened(view, name)` is called for each change. */
export class Router {
  #opened;

  constructor(opened) {
    this.#opened = opened;
    addEventListener("hashchange", () => this.#route({ focus: true }));
  }

  start() {
    this.#route({ focus: false });
  }

  /** Quietly: the page is shown already, and only the address follows. */
  go(name, { quietly = false } = {}) {
    if (quietly) history.replaceState(null, "", `#${name}`);
    else if (location.hash === `#${name}`) this.#route({ focus: false });
    else location.hash = name;
  }

  #route({ focus }) {
    const name = location.hash.slice(1) || "files";
    const view = VIEWS.includes(name) ? name : "transcript";
    for (const id of VIEWS) byId(id).hidden = id !== view;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${view === "transcript" ? "files" : view}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (focus) {
      scrollTo(0, 0);
      byId(`${view}-title`).focus({ preventScroll: true });
    }
    this.#opened(view, name);
  }
}
