// Draws the microphone level of the last seconds.

const BAR_WIDTH = 3;
const BAR_SPACING = 5;

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
