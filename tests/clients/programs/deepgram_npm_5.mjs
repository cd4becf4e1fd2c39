// @deepgram/sdk 5: a file and live audio.
//
//     node deepgram_npm_5.mjs URL KEY FILE PCM_FILE
import { readFile } from "node:fs/promises";
import { DeepgramClient } from "@deepgram/sdk";

const [url, key, file, pcm] = process.argv.slice(2);
const websockets = url.replace("http", "ws");
const environment = { base: url, production: websockets, agent: websockets, agentRest: url };
const client = new DeepgramClient({ apiKey: key, environment });
const options = { model: "nova-3", smart_format: true, utterances: true, diarize: true, language: "en-US" };
const result = await client.listen.v1.media.transcribeFile(await readFile(file), options);
const refused = await client.listen.v1.media
  .transcribeUrl({ url: "https://example.com/a.wav", ...options })
  .then(() => "", (problem) => problem.message);

const finals = [];
const live = await client.listen.v1.connect({
  model: "nova-3", encoding: "linear16", sample_rate: 16000, interim_results: "true", language: "en-US",
});
const ended = new Promise((resolve, reject) => {
  live.on("message", (message) => {
    if (message.type === "Results" && message.is_final) finals.push(message.channel.alternatives[0].transcript);
    if (message.type === "Metadata") resolve();
  });
  live.on("error", reject);
});
live.connect();
await live.waitForOpen();
const samples = await readFile(pcm);
for (let start = 0; start < samples.length; start += 3200) live.sendMedia(samples.subarray(start, start + 3200));
live.sendCloseStream({ type: "CloseStream" });
await ended;
console.log(JSON.stringify({
  file: result.results.channels[0].alternatives[0].transcript,
  refused,
  live: finals.filter(Boolean),
}));
process.exit(0);
