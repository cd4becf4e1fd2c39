// The server's jobs of late.

import { Edits } from "./edits.js";
import { byId, complain, element } from "./element.js";
import { ended, list, remove } from "./job.js";
import { clock, percent, when } from "./numbers.js";

const INTERVAL = 3000;

export class Recent {
  #timer = 0;
  #jobs = [];
  #older = [];

  constructor() {
    byId("more").addEventListener("click", () => this.#more());
  }

  /** Look, and go on looking while something is unfinished. */
  async watch() {
    this.stop();
    const page = await list().catch(() => null);
    if (page) this.#show(page);
    if (page?.data.some((job) => !ended(job))) this.#timer = setTimeout(() => this.watch(), INTERVAL);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #show({ data, has_more: hasMore }) {
    this.#jobs = data;
    if (!this.#older.length) byId("more").hidden = !hasMore;
    this.#render();
  }

  async #more() {
    const shown = [...this.#jobs, ...this.#older];
    const { data, has_more: hasMore } = await list(shown.at(-1).id);
    this.#older.push(...data);
    byId("more").hidden = !hasMore;
    this.#render();
  }

  #render() {
    const seen = new Set(this.#jobs.map(({ id }) => id));
    const shown = [...this.#jobs, ...this.#older.filter(({ id }) => !seen.has(id))];
    const focused = document.activeElement?.closest("li")?.dataset.job;
    const index = document.activeElement?.matches("#jobs button") ? "button" : "a";
    byId("jobs").replaceChildren(...shown.map((job) => this.#row(job)));
    byId("recent").hidden = !shown.length;
    if (focused) document.querySelector(`li[data-job="${CSS.escape(focused)}"] ${index}`)?.focus();
  }

  #row(job) {
    const name = job.file.name || job.id;
    const link = element("a", { href: `#${job.id}` }, element("span", { class: "name" }, name), element("span", { class: "muted" }, told(job)));
    const gone = element("button", { type: "button", class: "quiet", "aria-label": `Delete ${name}`, title: "Delete" }, "×");
    gone.addEventListener("click", () => this.#remove(job.id));
    return element("li", { "data-job": job.id, class: job.state }, link, gone);
  }

  async #remove(id) {
    try {
      await remove(id);
      Edits.forget(id);
      this.#older = this.#older.filter((job) => job.id !== id);
      await this.watch();
    } catch (error) {
      complain("files-error", error.message);
    }
  }
}

function told({ state, progress, audio_seconds: seconds, created_at: created }) {
  const length = seconds ? clock(seconds) : "";
  return [when(created), length, STATES[state](progress)].filter(Boolean).join(" · ");
}

const STATES = {
  queued: () => "waiting",
  running: percent,
  succeeded: () => "",
  failed: () => "failed",
  cancelled: () => "cancelled",
};
