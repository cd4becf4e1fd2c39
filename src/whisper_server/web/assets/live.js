// Captions while somebody speaks: the microphone goes to /v1/stream, words come back.

import { Captions } from "./captions.js";
import { byId, complain, say } from "./element.js";
import { savedKey } from "./key.js";
import { Level } from "./level.js";
import { Microphone } from "./microphone.js";
import { clock, duration, when } from "./numbers.js";
import { Recording } from "./recording.js";
import { address, ask, postJson } from "./server.js";
import { Transcript } from "./transcript.js";

// So many bytes may wait to be sent before it is said that the connection is too slow.
const BEHIND = 1e6;

export class Live {
  #captions = new Captions();
  #level = new Level(byId("level"));
  #microphone = null;
  #socket = null;
  #recording = null;
  #transcript = null;
  #finished;

  /** `finished(transcript, facts, sound)` gets what was said. */
  constructor({ finished }) {
    this.#finished = finished;
    byId("live-language").replaceChildren(...byId("language").cloneNode(true).children);
    byId("live-language").value = "";
    byId("listen").addEventListener("click", () => (this.#microphone ? this.#stop() : this.#start()));
    addEventListener("beforeunload", (event) => this.#microphone && event.preventDefault());
  }

  async #start() {
    byId("listen").disabled = true;
    complain("live-error", "");
    byId("live-done").hidden = true;
    this.#captions.clear();
    say("live-status", "Asking for the microphone");
    try {
      const early = [];
      this.#microphone = await Microphone.open((samples) => (this.#recording ? this.#hear(samples) : early.push(samples)));
      this.#transcript = new Transcript({ name: `Live, ${when(Date.now() / 1000)}`, language: byId("live-language").value || null });
      this.#connect(await passFor());
      this.#recording = new Recording(this.#microphone.rate);
      early.forEach((samples) => this.#hear(samples));
      say("listen", "Stop");
    } catch (error) {
      await this.#fail(error.message);
    }
    byId("listen").disabled = false;
  }

  #connect(pass) {
    const query = new URLSearchParams({ encoding: "pcm16", rate: this.#microphone.rate, words: "true" });
    if (byId("live-language").value) query.set("language", byId("live-language").value);
    if (pass) query.set("api_key", pass);
    const socket = new WebSocket(address(`v1/stream?${query}`).replace(/^http/, "ws"));
    let opened = false;
    socket.binaryType = "arraybuffer";
    say("live-status", "Connecting");
    const waiting = [];
    this.#socket = { send: (data) => (socket.readyState === WebSocket.OPEN ? socket.send(data) : waiting.push(data)), socket };
    socket.onopen = () => {
      opened = true;
      for (const data of waiting.splice(0)) socket.send(data);
      if (this.#microphone) say("live-status", "Listening");
    };
    socket.onmessage = ({ data }) => this.#told(JSON.parse(data));
    socket.onclose = async ({ code, reason }) => {
      await this.#closed(code, reason || (opened ? "" : await refusalOf(query)));
    };
  }

  #hear(samples) {
    this.#level.add(samples);
    this.#recording.add(samples);
    this.#socket.send(samples);
    say("live-clock", clock(this.#recording.seconds));
    if (this.#socket.socket.bufferedAmount > BEHIND) say("lag", "the connection is too slow");
  }

  #told(message) {
    MESSAGES[message.type]?.({ captions: this.#captions, transcript: this.#transcript }, message);
  }

  async #stop() {
    say("live-status", "Finishing the last words");
    byId("listen").disabled = true;
    await this.#mute();
    this.#socket.send(JSON.stringify({ type: "end" }));
  }

  async #mute() {
    const microphone = this.#microphone;
    this.#microphone = null;
    say("listen", "Start");
    this.#level.clear();
    await microphone?.close();
  }

  async #closed(code, reason) {
    const ended = code === 1000;
    const heard = this.#recording;
    await this.#mute();
    say("lag", "");
    say("live-status", "Ready");
    byId("listen").disabled = false;
    this.#recording = null;
    if (!ended) complain("live-error", reason || LOST);
    if (heard?.seconds) this.#finish(heard, ended);
  }

  /** After a failure the error stays in view, and the transcript is a click away. */
  #finish(recording, ended) {
    const facts = `${duration(recording.seconds)}${ended ? "" : " · cut off"}`;
    this.#finished(this.#transcript, facts, { sound: recording.asWav(), recorded: true }, { open: ended });
  }

  async #fail(message) {
    await this.#mute();
    this.#recording = null;
    say("live-status", "Ready");
    complain("live-error", message);
  }
}

/** Browsers' WebSockets can send no headers, and an address is no place for a key: so a short-lived pass goes there. */
async function passFor() {
  return savedKey() ? (await postJson("v1/realtime/client_secrets", {})).value : "";
}

/** Browsers do not tell why a WebSocket was refused; the same address tells it to a request without sound. */
async function refusalOf(query) {
  query.delete("api_key");
  const request = { method: "POST", headers: { "content-type": "application/octet-stream" }, body: "" };
  return ask(`v1/stream?${query}`, request).then(() => "", (error) => error.message);
}

const LOST = "The connection to the server was lost.";

const MESSAGES = {
  partial: ({ captions }, message) => captions.partial(message),
  final: ({ captions, transcript }, message) => {
    captions.final(message);
    transcript.language ??= message.language;
    if (message.text.trim()) transcript.add(message);
  },
  lag: (_, { seconds }) => say("lag", seconds >= 1 ? `${Math.round(seconds)} s behind` : ""),
  error: (_, { message }) => complain("live-error", message),
};
