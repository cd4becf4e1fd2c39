// @deepgram/sdk 3 and 4: a file and live audio.
//
//     node deepgram_npm_3.mjs URL KEY FILE PCM_FILE
import { readFile } from "node:fs/promises";
import { createClient, LiveTranscriptionEvents } from "@deepgram/sdk";

const [url, key, file, pcm] = process.argv.slice(2);
const client = createClient(key, { global: { fetch: { options: { url } }, websocket: { options: { url } } } });
const options = { model: "nova-3", smart_format: true, utterances: true, diarize: true, language: "en-US" };
const { result, error } = await client.listen.prerecorded.transcribeFile(await readFile(file), options);
if (error) throw error;
const refused = await client.listen.prerecorded.transcribeUrl({ url: "https://example.com/a.wav" }, options);

const finals = [];
const live = client.listen.live({
  model: "nova-3", encoding: "linear16", sample_rate: 16000, interim_results: true, language: "en-US",
});
live.on(LiveTranscriptionEvents.Transcript, (message) => {
  if (message.is_final) finals.push(message.channel.alternatives[0].transcript);
});
live.on(LiveTranscriptionEvents.Error, (problem) => { throw problem; });
const closed = new Promise((resolve) => live.on(LiveTranscriptionEvents.Close, resolve));
await new Promise((resolve) => live.on(LiveTranscriptionEvents.Open, resolve));
const samples = await readFile(pcm);
for (let start = 0; start < samples.length; start += 3200) live.send(samples.subarray(start, start + 3200));
live.requestClose();
await closed;
console.log(JSON.stringify({
  file: result.results.channels[0].alternatives[0].transcript,
  refused: refused.error.message,
  live: finals.filter(Boolean),
}));
process.exit(0);
