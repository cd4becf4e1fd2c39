// Transcribes a file, from its upload to its transcript.

import { byId } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { absoluteUrl, request, savedKey } from "../lib/http.js";
import { audioPath, cancelJob, getJob, getResult, isFinished, jobEvents, submitJobs, transcribe } from "../lib/transcription-api.js";
import { Edits, Transcript } from "../transcript/transcript.js";
import { isTranslation, optionFields } from "./options.js";
import { TaskProgress } from "./task-progress.js";

// Recordings below this size, in bytes, are downloaded at once to draw their waveform.
const MAX_DOWNLOAD = 100e6;
// The status codes of servers that do not accept jobs.
const NO_JOBS = [404, 405, 503];

export class TranscriptionTask {
  #view;
  #jobsEnabled;
  #navigate;
  #progress = new TaskProgress();
  #controller = new AbortController();
  #eventsController = new AbortController();
  #localFiles = new Map();
  #uploads = 0;
  current = "";

  /** `navigate(name)` shows the view of that name. */
  constructor(view, { jobsEnabled, navigate }) {
    this.#view = view;
    this.#jobsEnabled = jobsEnabled;
    this.#navigate = navigate;
    addEventListener("beforeunload", (event) => this.#uploads && event.preventDefault());
  }

  /** Transcribe one file in this view, or submit several as jobs that the list of recent jobs shows. */
  async start(files) {
    const signal = this.#begin("upload", files.length > 1 ? `${files.length} files` : files[0].name);
    this.#navigate("upload");
    try {
      const jobs = this.#jobsEnabled ? await this.#guardUpload(this.#submit(files, signal)) : null;
      if (jobs?.length > 1) return this.#isCurrent(signal) && this.#navigate("files");
      if (!jobs) return await this.#guardUpload(this.#stream(files[0], signal));
      this.#localFiles.set(jobs[0].id, files[0]);
      if (!this.#isCurrent(signal)) return;
      this.current = jobs[0].id;
      this.#navigate(jobs[0].id, { replace: true });
      await this.#followJob(jobs[0], signal);
    } catch (error) {
      this.#fail(error, signal, () => this.start(files));
    }
  }

  /** Show a job. */
  async open(id) {
    const signal = this.#begin(id, "");
    try {
      await this.#followJob(await getJob(id), signal);
    } catch (error) {
      this.#fail(error, signal, () => this.open(id));
    }
  }

  /** Show a finished transcript that does not belong to a job. */
  show(transcript, summary, recording) {
    this.#begin("recording", transcript.name);
    this.#progress.finish(summary);
    this.#view.show(transcript, recording);
  }

  pause() {
    this.#view.pause();
  }

  /** Return the new task's signal, which also identifies it. Earlier uploads continue in the background. */
  #begin(current, name) {
    const controller = new AbortController();
    this.#controller = controller;
    this.#eventsController.abort();
    this.current = current;
    this.#progress.start(() => controller.abort());
    this.#view.show(new Transcript({ name }));
    return controller.signal;
  }

  #isCurrent(signal) {
    return this.#controller.signal === signal;
  }

  /** Until the upload has finished, the browser asks before it closes the page. */
  #guardUpload(upload) {
    this.#uploads += 1;
    return upload.finally(() => (this.#uploads -= 1));
  }

  /** Resolve to the jobs, or to null if the server does not accept jobs. */
  async #submit(files, signal) {
    return submitJobs(files, optionFields(), { signal, ...this.#callbacks(signal) }).catch((error) => {
      if (NO_JOBS.includes(error.status) && files.length === 1) return null;
      throw error;
    });
  }

  #callbacks(signal) {
    const ifCurrent = (callback) => (...values) => this.#isCurrent(signal) && callback(...values);
    return {
      onUpload: ifCurrent((loaded, total) => this.#progress.showUpload(loaded, total)),
      onUploaded: ifCurrent(() => this.#progress.wait("Waiting", "upload complete")),
      onDisconnect: ifCurrent(() => this.#progress.wait("The server is not responding. Waiting for it to come back")),
    };
  }

  async #stream(file, signal) {
    const started = performance.now();
    const transcript = new Transcript({ name: file.name, translated: isTranslation() });
    this.#view.show(transcript, { recording: file });
    const onSegments = (segments) => this.#isCurrent(signal) && this.#addSegments(transcript, segments);
    transcript.language = await transcribe(file, optionFields(), { signal, onSegments, ...this.#callbacks(signal) });
    if (this.#isCurrent(signal)) this.#finish(transcript, (performance.now() - started) / 1000);
  }

  async #followJob(job, signal) {
    const edits = new Edits(job.id);
    const transcript = new Transcript({ name: job.file.name || job.id, translated: job.task === "translate", edits });
    const localFile = this.#localFiles.get(job.id) ?? null;
    this.#progress.start(() => cancelJob(job.id).catch((error) => this.#progress.fail(error.message)));
    this.#view.show(transcript, { recording: localFile });
    if (!localFile && job.file.kept) this.#loadRecording(job, signal);
    for await (const event of isFinished(job) ? [finalEvent(job)] : this.#events(job, signal)) {
      if (!this.#isCurrent(signal)) return;
      await TranscriptionTask.#eventHandlers[event.type]?.(this, event, job, transcript);
    }
  }

  #events(job, signal) {
    this.#eventsController = new AbortController();
    return jobEvents(job.id, { signal: this.#eventsController.signal, onDisconnect: this.#callbacks(signal).onDisconnect });
  }

  /** Media elements cannot send a key, so a recording that needs one is always downloaded. */
  async #loadRecording(job, signal) {
    const path = audioPath(job.id);
    const download = savedKey() || job.file.bytes < MAX_DOWNLOAD;
    const recording = download ? await request(path, { signal }).then((response) => response.blob(), () => null) : absoluteUrl(path);
    if (this.#isCurrent(signal) && recording) this.#view.setRecording(recording);
  }

  #addSegments(transcript, segments) {
    const from = transcript.segments.length;
    for (const segment of segments) transcript.add(segment);
    this.#view.append(from);
    if (segments.length && byId("progress-status").textContent !== "Transcribing") {
      this.#progress.showTranscription(transcript.duration, 0, 0);
    }
  }

  async #showResult(job, transcript) {
    const { segments, words = [] } = await getResult(job);
    const { language, started_at: started, finished_at: finished } = await getJob(job.id);
    transcript.language = language;
    transcript.setTimes(segments, words);
    this.#finish(transcript, finished && started ? finished - started : 0);
  }

  #finish(transcript, seconds) {
    this.#progress.finish(summaryOf(transcript, seconds));
    this.#view.refresh();
  }

  #fail(error, signal, onRetry) {
    if (this.#isCurrent(signal)) this.#progress.fail(error.name === "AbortError" ? "Cancelled." : error.message, onRetry);
  }

  static #eventHandlers = {
    "job.queued": (task, event, { position }) => task.#progress.wait("Queued", position ? `${position} ahead` : ""),
    "job.requeued": (task) => task.#progress.wait("Queued"),
    "job.progress": (task, { audio_seconds_done: done, audio_seconds: total, estimated_finish_at: finish, at }) =>
      task.#progress.showTranscription(done, total, finish ? finish - at : 0),
    "job.segment": (task, { segment }, job, transcript) => task.#addSegments(transcript, [segment]),
    "job.succeeded": (task, event, job, transcript) => task.#showResult(job, transcript),
    "job.failed": (task, { error }) => task.#progress.fail(error.message),
    "job.cancelled": (task) => task.#progress.fail("Cancelled."),
  };
}

const finalEvent = (job) => ({ type: `job.${job.state}`, error: job.error });

function summaryOf({ segments, textLanguage, language, translated }, seconds) {
  const time = seconds ? `took ${duration(seconds)}` : "";
  if (!segments.length) return ["No speech found", time].filter(Boolean).join(" · ");
  const name = language ? new Intl.DisplayNames(["en"], { type: "language" }).of(language) : "";
  const translation = language && translated && textLanguage !== language ? ", translated into English" : "";
  const count = segments.length === 1 ? "1 segment" : `${segments.length} segments`;
  return [name + translation, count, time].filter(Boolean).join(" · ");
}
