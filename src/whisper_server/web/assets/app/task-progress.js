// The progress bar and the error message of a transcription task.

import { byId, setText, showError } from "../lib/dom.js";
import { clock, duration, fileSize, percent } from "../lib/format.js";

export class TaskProgress {
  #onCancel = () => {};
  #onRetry = null;

  constructor() {
    byId("cancel").addEventListener("click", () => this.#onCancel());
    byId("retry").addEventListener("click", () => this.#onRetry());
  }

  start(onCancel) {
    this.#onCancel = onCancel;
    setText("summary", "");
    byId("failure").hidden = true;
    byId("progress").hidden = false;
    this.wait("Starting");
  }

  /** Show an indeterminate bar. Screen readers announce `status`, so text that changes often belongs in `detail`. */
  wait(status, detail = "") {
    this.#show(status, detail, null);
  }

  showUpload(loaded, total) {
    this.#show("Uploading", `${fileSize(loaded)} of ${fileSize(total)}, ${percent(loaded / total)}`, loaded / total);
  }

  /** `done` and `total` are seconds of audio, `remaining` is in seconds; 0 means unknown. */
  showTranscription(done, total, remaining) {
    const estimate = remaining > 0 ? `, about ${duration(remaining)} left` : "";
    this.#show("Transcribing", total ? `${clock(done)} of ${clock(total)}${estimate}` : clock(done), total ? done / total : null);
  }

  finish(summary) {
    byId("progress").hidden = true;
    setText("summary", summary);
  }

  /** Without `onRetry` there is no retry button. */
  fail(message, onRetry = null) {
    this.finish("");
    this.#onRetry = onRetry;
    byId("retry").hidden = !onRetry;
    byId("failure").hidden = false;
    showError("failure-message", message);
  }

  #show(status, detail, fraction) {
    setText("progress-status", status);
    setText("progress-detail", detail);
    if (fraction === null) byId("progress-bar").removeAttribute("value");
    else byId("progress-bar").value = fraction;
  }
}
