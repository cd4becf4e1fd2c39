// Draws the waveform of a recording, its segments and the part that has been played.

const BAR_WIDTH = 3;
const GAP = 1;
const SAMPLE_RATE = 8000;
const PEAK_COUNT = 1200;
// Decoding needs 32 kB of memory per second and channel, so larger (bytes) and longer (seconds) files are not decoded.
const MAX_BYTES = 200e6;
const MAX_SECONDS = 5400;

/** Resolve to peaks from 0 to 1, or to null if the file is too long or the browser cannot decode it. */
export async function computePeaks(blob, seconds) {
  if (!blob || blob.size > MAX_BYTES || !(seconds <= MAX_SECONDS)) return null;
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  const audio = await blob.arrayBuffer().then((bytes) => context.decodeAudioData(bytes)).catch(() => null);
  return audio && normalizedPeaks(audio.getChannelData(0));
}

function normalizedPeaks(samples) {
  const step = Math.max(1, Math.ceil(samples.length / PEAK_COUNT));
  const peaks = [];
  for (let from = 0; from < samples.length; from += step) {
    let peak = 0;
    for (let i = from; i < Math.min(from + step, samples.length); i += 1) peak = Math.max(peak, Math.abs(samples[i]));
    peaks.push(peak);
  }
  const highest = Math.max(...peaks, 0.05);
  return peaks.map((peak) => peak / highest);
}

export class Waveform {
  #canvas;
  #content = { peaks: null, segments: [], duration: 0, position: 0 };

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Draw with other peaks, segments, duration or position; those that are not given stay. */
  show(changes) {
    Object.assign(this.#content, changes);
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale)) this.#canvas.width = Math.round(width * scale);
    if (this.#canvas.height !== Math.round(height * scale)) this.#canvas.height = Math.round(height * scale);
    const context = this.#canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#drawBars(context, width, height);
  }

  #drawBars(context, width, height) {
    const style = getComputedStyle(this.#canvas);
    const [played, speech, silence] = ["--accent", "--waveform", "--border"].map((name) => style.getPropertyValue(name));
    const { duration, position } = this.#content;
    const count = Math.floor(width / (BAR_WIDTH + GAP));
    const isSpeech = this.#speechBars(count);
    const playedBars = duration ? (position / duration) * count : 0;
    for (let i = 0; i < count; i += 1) {
      const barHeight = Math.max(2, this.#peak(i, count, isSpeech[i]) * (height - 6));
      context.fillStyle = i < playedBars ? played : isSpeech[i] ? speech : silence;
      context.beginPath();
      context.roundRect(i * (BAR_WIDTH + GAP), (height - barHeight) / 2, BAR_WIDTH, barHeight, 1.5);
      context.fill();
    }
  }

  /** Without peaks, all bars of a segment have the same height. */
  #peak(i, count, isSpeech) {
    const { peaks } = this.#content;
    if (!peaks) return isSpeech ? 0.3 : 0;
    const from = Math.floor((i / count) * peaks.length);
    const to = Math.max(from + 1, Math.floor(((i + 1) / count) * peaks.length));
    return Math.max(...peaks.slice(from, to));
  }

  #speechBars(count) {
    const bars = new Uint8Array(count);
    const { segments, duration } = this.#content;
    if (!duration) return bars;
    for (const { start, end } of segments) bars.fill(1, Math.floor((start / duration) * count), Math.ceil((end / duration) * count));
    return bars;
  }
}
