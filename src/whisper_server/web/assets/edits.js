// Edited segments of a job, kept in this browser until the job is deleted.

const name = (job) => `whisper-server:edits:${job}`;

export class Edits {
  #job;
  #texts;

  constructor(job) {
    this.#job = job;
    this.#texts = JSON.parse(localStorage.getItem(name(job)) ?? "{}");
  }

  get(index) {
    return this.#texts[index];
  }

  /** null is the server's own text. */
  set(index, text) {
    if (text === null) delete this.#texts[index];
    else this.#texts[index] = text;
    localStorage.setItem(name(this.#job), JSON.stringify(this.#texts));
  }

  static forget(job) {
    localStorage.removeItem(name(job));
  }
}
