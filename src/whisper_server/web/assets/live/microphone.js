// Captures the microphone as 16-bit PCM, and draws its level.

const BAR_WIDTH = 3;
const BAR_SPACING = 5;

export class Microphone {
  #stream;
  #context;

  /** `onSamples(samples)` gets an Int16Array every 50 ms. */
  static async open(onSamples) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(
        "Browsers allow microphone access only on localhost or over HTTPS. " +
          "Open this page at such an address; docs/security.md explains how to serve HTTPS.",
      );
    }
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true };
    const stream = await navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
      throw new Error(ERRORS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    });
    const microphone = new Microphone(stream);
    await microphone.#start(onSamples);
    return microphone;
  }

  constructor(stream) {
    this.#stream = stream;
  }

  get sampleRate() {
    return this.#context.sampleRate;
  }

  async close() {
    for (const track of this.#stream.getTracks()) track.stop();
    if (this.#context.state !== "closed") await this.#context.close();
  }

  async #start(onSamples) {
    const source = this.#createSource();
    await this.#context.audioWorklet.addModule(new URL("./pcm-worklet.js", import.meta.url));
    const worklet = new AudioWorkletNode(this.#context, "pcm", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    worklet.port.onmessage = ({ data }) => onSamples(data);
    source.connect(worklet);
    await this.#context.resume();
  }

  /** Some browsers cannot resample a microphone; the server resamples instead. */
  #createSource() {
    try {
      this.#context = new AudioContext({ sampleRate: 16_000 });
      return this.#context.createMediaStreamSource(this.#stream);
    } catch {
      this.#context = new AudioContext();
      return this.#context.createMediaStreamSource(this.#stream);
    }
  }
}

/** Draws the level of the last seconds. */
export class LevelMeter {
  #canvas;
  #levels = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Add the level of 16-bit samples: -60 dBFS is an empty bar, -5 dBFS a full one. */
  add(samples) {
    const squares = samples.reduce((sum, sample) => sum + (sample / 32768) ** 2, 0);
    const decibels = 10 * Math.log10(squares / samples.length + 1e-10);
    this.#levels.push(Math.min(1, Math.max(0, (decibels + 60) / 55)));
    this.#levels.splice(0, this.#levels.length - Math.floor(this.#canvas.width / BAR_SPACING));
    this.#draw();
  }

  clear() {
    this.#levels = [];
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this.#canvas).getPropertyValue("--accent");
    this.#levels.forEach((level, i) => {
      const barHeight = Math.max(3, level * height);
      context.fillRect(width - (this.#levels.length - i) * BAR_SPACING, (height - barHeight) / 2, BAR_WIDTH, barHeight);
    });
  }
}

const ERRORS = {
  NotAllowedError: "The browser blocked the microphone. Allow it for this page (the icon next to the address), then start again.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "Another program is using the microphone.",
};
