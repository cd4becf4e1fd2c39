// The microphone as 16-bit samples.

export class MicrophoneRefused extends Error {}

export class Microphone {
  #stream;
  #context;

  /** `heard(samples)` gets an Int16Array twenty times a second. */
  static async open(heard) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneRefused(
        "Browsers give a microphone only to pages on this machine (localhost) or on https. " +
          "Open this page under such an address; docs/security.md says how to serve https.",
      );
    }
    const wanted = { audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true } };
    const stream = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => {
      throw new MicrophoneRefused(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    });
    const microphone = new Microphone(stream);
    await microphone.#listen(heard);
    return microphone;
  }

  constructor(stream) {
    this.#stream = stream;
  }

  get rate() {
    return this.#context.sampleRate;
  }

  async close() {
    for (const track of this.#stream.getTracks()) track.stop();
    if (this.#context.state !== "closed") await this.#context.close();
  }

  async #listen(heard) {
    const source = this.#source();
    await this.#context.audioWorklet.addModule(new URL("./samples-worklet.js", import.meta.url));
    const samples = new AudioWorkletNode(this.#context, "samples", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    samples.port.onmessage = ({ data }) => heard(data);
    source.connect(samples);
    await this.#context.resume();
  }

  /** Some browsers cannot resample a microphone; then the server does. */
  #source() {
    try {
      this.#context = new AudioContext({ sampleRate: 16_000 });
      return this.#context.createMediaStreamSource(this.#stream);
    } catch {
      this.#context = new AudioContext();
      return this.#context.createMediaStreamSource(this.#stream);
    }
  }
}

const REASONS = {
  NotAllowedError:
    "The browser has refused the microphone. Allow it for this page (the sign beside the address), then start again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "Another program is using the microphone.",
};
