// Live captions: sends the microphone to /v1/stream and shows the words that come back.

import { byId, element, setText, showError } from "../lib/dom.js";
import { clock, duration, timeOrDate } from "../lib/format.js";
import { absoluteUrl, postJson, request, savedKey } from "../lib/http.js";
import { Transcript } from "../transcript/transcript.js";
import { LevelMeter, Microphone } from "./microphone.js";
import { WavRecording } from "./wav-recording.js";

// With more unsent bytes than this, the connection is reported as too slow.
const MAX_BUFFERED = 1e6;
// Captions scroll to the newest words unless the user has scrolled up by more than this many pixels.
const BOTTOM_TOLERANCE = 40;

export class LiveView {
  #captions = new Captions();
  #levelMeter = new LevelMeter(byId("level-meter"));
  #microphone = null;
  #socket = null;
  #recording = null;
  #transcript = null;
  #onFinish;

  /** `onFinish(transcript, summary, recording, { open })` is called after each session; `open` tells whether to show it. */
  constructor({ onFinish }) {
    this.#onFinish = onFinish;
    byId("live-language").replaceChildren(...byId("language").cloneNode(true).children);
    byId("live-language").value = "";
    byId("live-toggle").addEventListener("click", () => (this.#microphone ? this.#stop() : this.#start()));
    addEventListener("beforeunload", (event) => this.#microphone && event.preventDefault());
  }

  async #start() {
    byId("live-toggle").disabled = true;
    showError("live-error", "");
    byId("live-result").hidden = true;
    this.#captions.clear();
    setText("live-status", "Requesting microphone access");
    try {
      const early = []; // samples from before the connection
      this.#microphone = await Microphone.open((samples) => (this.#recording ? this.#send(samples) : early.push(samples)));
      this.#transcript = new Transcript({ name: `Live, ${timeOrDate(Date.now() / 1000)}`, language: byId("live-language").value || null });
      this.#connect(await createClientSecret());
      this.#recording = new WavRecording(this.#microphone.sampleRate);
      early.forEach((samples) => this.#send(samples));
      setText("live-toggle", "Stop");
    } catch (error) {
      await this.#reset();
      showError("live-error", error.message);
    }
    byId("live-toggle").disabled = false;
  }

  #connect(clientSecret) {
    const query = new URLSearchParams({ encoding: "pcm16", rate: this.#microphone.sampleRate, words: "true" });
    if (byId("live-language").value) query.set("language", byId("live-language").value);
    if (clientSecret) query.set("api_key", clientSecret);
    const socket = new WebSocket(absoluteUrl(`v1/stream?${query}`).replace(/^http/, "ws"));
    let opened = false;
    socket.binaryType = "arraybuffer";
    setText("live-status", "Connecting");
    const queue = [];
    this.#socket = { send: (data) => (socket.readyState === WebSocket.OPEN ? socket.send(data) : queue.push(data)), socket };
    socket.onopen = () => {
      opened = true;
      for (const data of queue.splice(0)) socket.send(data);
      if (this.#microphone) setText("live-status", "Listening");
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      LiveView.#messageHandlers[message.type]?.(this, message);
    };
    socket.onclose = async ({ code, reason }) => {
      await this.#handleClose(code, reason || (opened ? "" : await connectionError(query)));
    };
  }

  #send(samples) {
    this.#levelMeter.add(samples);
    this.#recording.add(samples);
    this.#socket.send(samples);
    setText("live-clock", clock(this.#recording.seconds));
    if (this.#socket.socket.bufferedAmount > MAX_BUFFERED) setText("live-lag", "the connection is too slow");
  }

  async #stop() {
    setText("live-status", "Transcribing the last words");
    byId("live-toggle").disabled = true;
    await this.#closeMicrophone();
    this.#socket.send(JSON.stringify({ type: "end" }));
  }

  async #closeMicrophone() {
    const microphone = this.#microphone;
    this.#microphone = null;
    setText("live-toggle", "Start");
    this.#levelMeter.clear();
    await microphone?.close();
  }

  /** After an error, the message stays in view and a link leads to the transcript. */
  async #handleClose(code, reason) {
    const completed = code === 1000;
    const recording = this.#recording;
    await this.#reset();
    setText("live-lag", "");
    byId("live-toggle").disabled = false;
    if (!completed) showError("live-error", reason || "The connection to the server was lost.");
    if (!recording?.seconds) return;
    const summary = `${duration(recording.seconds)}${completed ? "" : " · incomplete"}`;
    this.#onFinish(this.#transcript, summary, { recording: recording.toBlob(), downloadable: true }, { open: completed });
  }

  async #reset() {
    await this.#closeMicrophone();
    this.#recording = null;
    setText("live-status", "Ready");
  }

  static #messageHandlers = {
    partial: (view, message) => view.#captions.showPartial(message),
    final: (view, message) => {
      view.#captions.addFinal(message);
      view.#transcript.language ??= message.language;
      if (message.text.trim()) view.#transcript.add(message);
    },
    lag: (view, { seconds }) => setText("live-lag", seconds >= 1 ? `${Math.round(seconds)} s behind` : ""),
    error: (view, { message }) => showError("live-error", message),
  };
}

class Captions {
  #box = byId("captions");
  #autoScroll = true;

  constructor() {
    this.#box.addEventListener("scroll", () => {
      this.#autoScroll = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < BOTTOM_TOLERANCE;
    });
  }

  clear() {
    byId("final-captions").replaceChildren();
    this.showPartial({ confirmed: "", pending: "" });
    this.#autoScroll = true;
  }

  /** Confirmed words are final; pending ones may still change. */
  showPartial({ confirmed, pending }) {
    setText("confirmed", confirmed);
    setText("pending", pending);
    if (this.#autoScroll) this.#box.scrollTop = this.#box.scrollHeight;
  }

  addFinal({ text }) {
    if (text.trim()) byId("final-captions").append(element("p", { dir: "auto" }, text.trim()));
    this.showPartial({ confirmed: "", pending: "" });
  }
}

/** WebSockets in browsers cannot send headers, and a URL must not contain the API key, so it gets a short-lived secret. */
async function createClientSecret() {
  return savedKey() ? (await postJson("v1/realtime/client_secrets", {})).value : "";
}

/** Browsers do not report why a WebSocket was rejected, but the server answers the same request without audio. */
async function connectionError(query) {
  query.delete("api_key");
  const options = { method: "POST", headers: { "content-type": "application/octet-stream" }, body: "" };
  return request(`v1/stream?${query}`, options).then(() => "", (error) => error.message);
}
