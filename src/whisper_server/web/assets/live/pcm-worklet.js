// An audio worklet that converts the microphone's float samples to 16-bit PCM, in chunks of 50 ms.

class PcmProcessor extends AudioWorkletProcessor {
  #chunk = new Int16Array(Math.round(sampleRate / 20));
  #length = 0;

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.#chunk[this.#length] = Math.max(-1, Math.min(1, sample)) * 32767;
      this.#length += 1;
      if (this.#length === this.#chunk.length) {
        this.port.postMessage(this.#chunk.slice());
        this.#length = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", PcmProcessor);
