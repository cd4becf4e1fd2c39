// Shows the view that the fragment of the address names.

import { byId } from "../lib/dom.js";

const VIEWS = ["files", "transcript", "live", "developers"];

export class Router {
  #onRoute;

  /** `onRoute(view, name)` is called after each change of the address. */
  constructor(onRoute) {
    this.#onRoute = onRoute;
    addEventListener("hashchange", () => this.#route({ focus: true }));
  }

  start() {
    this.#route({ focus: false });
  }

  /** With `replace`, only the address changes, because the view is already shown. */
  navigate(name, { replace = false } = {}) {
    if (replace) history.replaceState(null, "", `#${name}`);
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
    this.#onRoute(view, name);
  }
}
