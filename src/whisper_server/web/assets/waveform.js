// The loudness of a recording over its time, with its segments and the part that was played.

const BAR = 3;
const GAP = 1;
// Decoding takes memory: 8,000 samples a second, 4 bytes each, for each channel.
const LARGEST_FILE = 200e6;
const LONGEST = 5400;
const RATE = 8000;
const PEAKS = 1200;

/** Resolve to peaks from 0 to 1, or null where the browser cannot decode the file or it is too long. */
export async function peaksOf(blob, seconds) {
  if (!blob || blob.size > LARGEST_FILE || !(seconds <= LONGEST)) return null;
  const decoder = new OfflineAudioContext(1, 1, RATE);
  const sound = await blob.arrayBuffer().then((bytes) => decoder.decodeAudioData(bytes)).catch(() => null);
  return sound && loudest(sound.getChannelData(0));
}

function loudest(samples) {
  const step = Math.max(1, Math.ceil(samples.length / PEAKS));
  const peaks = [];
  for (let from = 0; from < samples.length; from += step) {
    let peak = 0;
    for (let i = from; i < Math.min(from + step, samples.length); i += 1) peak = Math.max(peak, Math.abs(samples[i]));
    peaks.push(peak);
  }
  const most = Math.max(...peaks, 0.05);
  return peaks.map((peak) => peak / most);
}

export class Waveform {
  #canvas;
  #peaks = null;
  #segments = [];
  #seconds = 0;
  #played = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  set peaks(peaks) {
    this.#peaks = peaks;
    this.#draw();
  }

  setSegments(segments, seconds) {
    this.#segments = segments;
    this.#seconds = seconds;
    this.#draw();
  }

  set played(seconds) {
    this.#played = seconds;
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale)) this.#canvas.width = Math.round(width * scale);
    if (this.#canvas.height !== Math.round(height * scale)) this.#canvas.height = Math.round(height * scale);
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.#drawBars(pen, width, height);
  }

  #drawBars(pen, width, height) {
    const style = getComputedStyle(this.#canvas);
    const [accent, spoken, silent] = ["--accent", "--wave", "--line"].map((name) => style.getPropertyValue(name));
    const count = Math.floor(width / (BAR + GAP));
    const speech = this.#speech(count);
    const playedBars = this.#seconds ? (this.#played / this.#seconds) * count : 0;
    for (let i = 0; i < count; i += 1) {
      const tall = Math.max(2, this.#peak(i, count, speech[i]) * (height - 6));
      pen.fillStyle = i < playedBars ? accent : speech[i] ? spoken : silent;
      pen.beginPath();
      pen.roundRect(i * (BAR + GAP), (height - tall) / 2, BAR, tall, 1.5);
      pen.fill();
    }
  }

  /** Without peaks a segment is a band. */
  #peak(i, count, spoken) {
    if (!this.#peaks) return spoken ? 0.3 : 0;
    const from = Math.floor((i / count) * this.#peaks.length);
    const to = Math.max(from + 1, Math.floor(((i + 1) / count) * this.#peaks.length));
    return Math.max(...this.#peaks.slice(from, to));
  }

  #speech(count) {
    const bars = new Uint8Array(count);
    if (!this.#seconds) return bars;
    for (const { start, end } of this.#segments) {
      bars.fill(1, Math.floor((start / this.#seconds) * count), Math.ceil((end / this.#seconds) * count));
    }
    return bars;
  }
}
