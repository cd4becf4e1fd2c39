// The list of the server's recent jobs.

import { byId, element, showError } from "../lib/dom.js";
import { clock, percent, timeOrDate } from "../lib/format.js";
import { deleteJob, isFinished, listJobs } from "../lib/transcription-api.js";
import { Edits } from "../transcript/transcript.js";

const POLL_INTERVAL = 3000; // milliseconds

export class RecentJobs {
  #timer = 0;
  #latest = [];
  #older = [];

  constructor() {
    byId("load-more").addEventListener("click", () => this.#loadMore());
  }

  /** Load the latest jobs, and again while one of them is unfinished. */
  async poll() {
    this.stop();
    const page = await listJobs().catch(() => null);
    if (!page) return;
    this.#latest = page.data;
    if (!this.#older.length) byId("load-more").hidden = !page.has_more;
    this.#render();
    if (page.data.some((job) => !isFinished(job))) this.#timer = setTimeout(() => this.poll(), POLL_INTERVAL);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  async #loadMore() {
    const { data, has_more: hasMore } = await listJobs([...this.#latest, ...this.#older].at(-1).id);
    this.#older.push(...data);
    byId("load-more").hidden = !hasMore;
    this.#render();
  }

  #render() {
    const latestIds = new Set(this.#latest.map(({ id }) => id));
    const jobs = [...this.#latest, ...this.#older.filter(({ id }) => !latestIds.has(id))];
    const focusedJob = document.activeElement?.closest("li")?.dataset.job;
    const focusedTag = document.activeElement?.matches("#jobs button") ? "button" : "a";
    byId("jobs").replaceChildren(...jobs.map((job) => this.#row(job)));
    byId("recent").hidden = !jobs.length;
    if (focusedJob) document.querySelector(`li[data-job="${CSS.escape(focusedJob)}"] ${focusedTag}`)?.focus();
  }

  #row(job) {
    const name = job.file.name || job.id;
    const link = element("a", { href: `#${job.id}` }, element("span", { class: "name" }, name), element("span", { class: "muted" }, description(job)));
    const button = element("button", { type: "button", class: "plain", "aria-label": `Delete ${name}`, title: "Delete" }, "×");
    button.addEventListener("click", () => this.#delete(job.id));
    return element("li", { "data-job": job.id, class: job.state }, link, button);
  }

  async #delete(id) {
    try {
      await deleteJob(id);
      Edits.forget(id);
      this.#older = this.#older.filter((job) => job.id !== id);
      await this.poll();
    } catch (error) {
      showError("files-error", error.message);
    }
  }
}

function description({ state, progress, audio_seconds: seconds, created_at: created }) {
  const status = state === "running" ? percent(progress) : state === "succeeded" ? "" : state;
  return [timeOrDate(created), seconds ? clock(seconds) : "", status].filter(Boolean).join(" · ");
}
