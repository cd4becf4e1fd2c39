// The microphone's level over the last seconds.

const BAR = 3;
const STEP = 5;

export class Level {
  #canvas;
  #levels = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Samples of 16 bits. */
  add(samples) {
    const squares = samples.reduce((sum, sample) => sum + (sample / 32768) ** 2, 0);
    const decibels = 10 * Math.log10(squares / samples.length + 1e-10);
    this.#levels.push(Math.min(1, Math.max(0, (decibels + 60) / 55)));
    this.#levels.splice(0, this.#levels.length - Math.floor(this.#canvas.width / STEP));
    this.#draw();
  }

  clear() {
    this.#levels = [];
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#canvas;
    const pen = this.#canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = getComputedStyle(this.#canvas).getPropertyValue("--accent");
    this.#levels.forEach((level, i) => {
      const tall = Math.max(3, level * height);
      pen.fillRect(width - (this.#levels.length - i) * STEP, (height - tall) / 2, BAR, tall);
    });
  }
}
