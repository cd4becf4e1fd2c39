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

  toBlob() {
    return new Blob([header(this.#sampleRate, this.#sampleCount * 2), ...this.#chunks], { type: "audio/wav" });
  }
}

/** The header of a 16-bit mono file with this many bytes of audio. */
function header(sampleRate, bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const write = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, bytes, true);
  return view;
}
