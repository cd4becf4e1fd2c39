// What the microphone heard, as a WAV.

export class Recording {
  #pieces = [];
  #count = 0;
  #rate;

  constructor(rate) {
    this.#rate = rate;
  }

  add(samples) {
    this.#pieces.push(samples);
    this.#count += samples.length;
  }

  get seconds() {
    return this.#count / this.#rate;
  }

  asWav() {
    return new Blob([header(this.#rate, this.#count * 2), ...this.#pieces], { type: "audio/wav" });
  }
}

/** Of 16-bit mono. */
function header(rate, bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const write = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, bytes, true);
  return view;
}
