// How far the work on a file is.

import { byId, complain, say } from "./element.js";
import { clock, duration, percent, size } from "./numbers.js";

export class Progress {
  #cancel = () => {};
  #again = null;

  constructor() {
    byId("cancel").addEventListener("click", () => this.#cancel());
    byId("again").addEventListener("click", () => this.#again());
  }

  begin(cancel) {
    this.#cancel = cancel;
    say("facts", "");
    byId("failure").hidden = true;
    byId("progress").hidden = false;
    this.wait("Starting");
  }

  /** Of unknown length. The status is read out, so what changes all the time stands beside it. */
  wait(status, amount = "") {
    say("status", status);
    say("amount", amount);
    byId("bar").removeAttribute("value");
  }

  uploading(loaded, total) {
    say("status", "Uploading");
    say("amount", `${size(loaded)} of ${size(total)}, ${percent(loaded / total)}`);
    byId("bar").value = loaded / total;
  }

  /** In seconds of audio; `left` in seconds, if known. */
  transcribing(done, whole, left) {
    say("status", "Transcribing");
    const remaining = left > 0 ? `, about ${duration(left)} left` : "";
    say("amount", whole ? `${clock(done)} of ${clock(whole)}${remaining}` : clock(done));
    if (whole) byId("bar").value = done / whole;
    else byId("bar").removeAttribute("value");
  }

  end(facts) {
    byId("progress").hidden = true;
    say("facts", facts);
  }

  /** `again` starts anew, where that makes sense. */
  fail(message, again = null) {
    this.end("");
    this.#again = again;
    byId("again").hidden = !again;
    byId("failure").hidden = false;
    complain("error", message);
  }
}
