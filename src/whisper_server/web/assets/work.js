// The file that the page is busy with: from its upload to its transcript.

import { Edits } from "./edits.js";
import { byId } from "./element.js";
import { audioOf, cancel, ended, find, follow, result, submit } from "./job.js";
import { savedKey } from "./key.js";
import { duration } from "./numbers.js";
import { Progress } from "./progress.js";
import { address, ask } from "./server.js";
import { transcribe } from "./stream.js";
import { Transcript } from "./transcript.js";
import { translates, wishedFields } from "./wishes.js";

// A recording up to this size is fetched at once, for its waveform.
const FETCHED = 100e6;
const NO_JOBS = [404, 405, 503];
const GONE = "The server does not answer. This goes on when it is back";

export class Work {
  #desk;
  #jobs;
  #go;
  #progress = new Progress();
  #controller = new AbortController();
  #following = new AbortController();
  #files = new Map();
  #unsafe = 0;
  current = "";

  /** `jobs`: whether the server takes some. `go(name)` shows the page of that name. */
  constructor(desk, { jobs, go }) {
    this.#desk = desk;
    this.#jobs = jobs;
    this.#go = go;
    addEventListener("beforeunload", (event) => this.#unsafe && event.preventDefault());
  }

  /** Several files become jobs that the list of recent ones shows. */
  async start(files) {
    const signal = this.#begin("upload", files.length > 1 ? `${files.length} files` : files[0].name);
    this.#go("upload");
    try {
      const jobs = this.#jobs ? await this.#guarded(this.#submit(files, signal)) : null;
      if (jobs?.length > 1) return this.#seen(signal) && this.#go("files");
      if (!jobs) return await this.#guarded(this.#stream(files[0], signal));
      this.#files.set(jobs[0].id, files[0]);
      if (!this.#seen(signal)) return;
      this.current = jobs[0].id;
      this.#go(jobs[0].id, { quietly: true });
      await this.#follow(jobs[0], signal);
    } catch (error) {
      this.#fail(error, signal, () => this.start(files));
    }
  }

  async open(id) {
    const signal = this.#begin(id, "");
    try {
      await this.#follow(await find(id), signal);
    } catch (error) {
      this.#fail(error, signal, () => this.open(id));
    }
  }

  /** Show what was made without the help of a job. */
  show(transcript, facts, sound) {
    this.#begin("recording", transcript.name);
    this.#progress.end(facts);
    this.#desk.show(transcript, sound);
  }

  pause() {
    this.#desk.stop();
  }

  /** Each work has its own signal; an upload that was begun earlier goes on unseen. */
  #begin(current, name) {
    const controller = new AbortController();
    this.#controller = controller;
    this.#following.abort();
    this.current = current;
    this.#progress.begin(() => controller.abort());
    this.#desk.show(new Transcript({ name }));
    return controller.signal;
  }

  /** The browser asks before it closes the page meanwhile, as the server does not have everything yet. */
  async #guarded(work) {
    this.#unsafe += 1;
    try {
      return await work;
    } finally {
      this.#unsafe -= 1;
    }
  }

  #seen(signal) {
    return this.#controller.signal === signal;
  }

  async #submit(files, signal) {
    return submit(files, wishedFields(), { signal, ...this.#watching(signal) }).catch((error) => {
      if (NO_JOBS.includes(error.status) && files.length === 1) return null;
      throw error;
    });
  }

  #watching(signal) {
    const seen = (act) => (...facts) => this.#seen(signal) && act(...facts);
    return {
      sending: seen((loaded, total) => this.#progress.uploading(loaded, total)),
      sent: seen(() => this.#progress.wait("Waiting", "the file is here")),
      gone: seen(() => this.#progress.wait(GONE)),
    };
  }

  async #stream(file, signal) {
    const started = performance.now();
    const transcript = new Transcript({ name: file.name, translated: translates() });
    this.#desk.show(transcript, { sound: file });
    const heard = (segments) => this.#seen(signal) && this.#add(transcript, segments);
    transcript.language = await transcribe(file, wishedFields(), { signal, heard, ...this.#watching(signal) });
    if (this.#seen(signal)) this.#finish(transcript, (performance.now() - started) / 1000);
  }

  async #follow(job, signal) {
    const edits = new Edits(job.id);
    const transcript = new Transcript({ name: job.file.name || job.id, translated: job.task === "translate", edits });
    const own = this.#files.get(job.id) ?? null;
    this.#progress.begin(() => cancel(job.id).catch((error) => this.#progress.fail(error.message)));
    this.#desk.show(transcript, { sound: own });
    if (!own && job.file.kept) this.#fetchSound(job, signal);
    for await (const event of ended(job) ? [endOf(job)] : this.#events(job, signal)) {
      if (!this.#seen(signal)) return;
      await STEPS[event.type]?.(this, event, job, transcript);
    }
  }

  #events(job, signal) {
    this.#following = new AbortController();
    return follow(job.id, { signal: this.#following.signal, gone: this.#watching(signal).gone });
  }

  async #fetchSound(job, signal) {
    const path = audioOf(job.id);
    const small = savedKey() || job.file.bytes < FETCHED;
    const sound = small ? await ask(path, { signal }).then((answer) => answer.blob(), () => null) : address(path);
    if (this.#seen(signal) && sound) this.#desk.hear(sound);
  }

  queued({ position }) {
    this.#progress.wait("Waiting for its turn", position ? `${position} before it` : "");
  }

  advanced({ audio_seconds_done: done, audio_seconds: whole, estimated_finish_at: finish, at }) {
    this.#progress.transcribing(done, whole, finish ? finish - at : 0);
  }

  add(transcript, segment) {
    this.#add(transcript, [segment]);
  }

  #add(transcript, segments) {
    const from = transcript.segments.length;
    for (const segment of segments) transcript.add(segment);
    this.#desk.append(from);
    if (segments.length && byId("status").textContent !== "Transcribing") this.#progress.transcribing(transcript.duration, 0, 0);
  }

  async succeeded(job, transcript) {
    const { segments, words = [] } = await result(job);
    const { language, started_at: started, finished_at: finished } = await find(job.id);
    transcript.language = language;
    transcript.time(segments, words);
    this.#finish(transcript, finished && started ? finished - started : 0);
  }

  failed(message) {
    this.#progress.fail(message);
  }

  #finish(transcript, seconds) {
    this.#progress.end(factsOf(transcript, seconds));
    this.#desk.refresh();
  }

  #fail(error, signal, again) {
    if (this.#seen(signal)) this.#progress.fail(error.name === "AbortError" ? "Cancelled." : error.message, again);
  }
}

const STEPS = {
  "job.queued": (work, event, job) => work.queued(job),
  "job.requeued": (work) => work.queued({}),
  "job.progress": (work, event) => work.advanced(event),
  "job.segment": (work, { segment }, job, transcript) => work.add(transcript, segment),
  "job.succeeded": (work, event, job, transcript) => work.succeeded(job, transcript),
  "job.failed": (work, { error }) => work.failed(error.message),
  "job.cancelled": (work) => work.failed("Cancelled."),
};

const endOf = (job) => ({ type: `job.${job.state}`, error: job.error });

function factsOf({ segments, textLanguage, language, translated }, seconds) {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const spoken = language ? names.of(language) + (translated && textLanguage !== language ? ", translated into English" : "") : "";
  const count = segments.length === 1 ? "1 segment" : `${segments.length} segments`;
  const took = seconds ? `took ${duration(seconds)}` : "";
  return [segments.length ? spoken : "No speech was found", segments.length ? count : "", took].filter(Boolean).join(" · ");
}
