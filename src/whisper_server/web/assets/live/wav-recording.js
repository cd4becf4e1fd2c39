// Records samples and writes them as a WAV file.

export class WavRecording {
  #chunks = [];
  #sampleCount = 0;
  #sampleRate;

  constructor(sampleRate) {
    this.#sampleRate = sampleRate;
  }

  add(samples) {
    this.#chunks.push(samples);
    this.#sampleCount += samples.length;
  }

  get seconds() {
    return this.#sampleCount / this.#sampleRate;
  }

  /** A 16-bit mono file. Typed arrays have the byte order of the machine, which is WAV's wherever browsers run. */
  toBlob() {
    const uint16 = (...values) => new Uint16Array(values);
    const uint32 = (...values) => new Uint32Array(values);
    const bytes = 2 * this.#sampleCount;
    const format = [uint32(16), uint16(1, 1), uint32(this.#sampleRate, 2 * this.#sampleRate), uint16(2, 16)];
    const header = ["RIFF", uint32(36 + bytes), "WAVEfmt ", ...format, "data", uint32(bytes)];
    return new Blob([...header, ...this.#chunks], { type: "audio/wav" });
  }
}
