// Captures the microphone as 16-bit PCM.

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

const ERRORS = {
  NotAllowedError: "The browser blocked the microphone. Allow it for this page (the icon next to the address), then start again.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "Another program is using the microphone.",
};
