// What the official npm SDK makes of a server: node check.mjs URL FILE, prints JSON.
import fs from "node:fs";
import OpenAI from "openai";

const [url, path] = process.argv.slice(2);
let requests = 0;
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: "none",
  fetch: (...call) => {
    requests += 1;
    return fetch(...call);
  },
});

const ask = (options) =>
  client.audio.transcriptions.create({ file: fs.createReadStream(path), model: "whisper-1", ...options });

const failure = async (options) => {
  try {
    await ask(options);
  } catch (error) {
    return { status: error.status, param: error.param, code: error.code, kind: error.constructor.name };
  }
};

const found = {};
found.json = await ask({ include: ["logprobs"], languages: ["en"], keywords: ["kettle"] });
found.verbose = await ask({
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
  chunking_strategy: { type: "server_vad", threshold: 0.5 },
});
found.text = await ask({ response_format: "text" });
found.srt = await ask({ response_format: "srt" });
found.vtt = await ask({ response_format: "vtt" });
found.events = [];
for await (const event of await ask({ stream: true })) found.events.push(event);
found.translation = await client.audio.translations.create({ file: fs.createReadStream(path), model: "whisper-1" });
found.models = (await client.models.list()).data;
found.model = await client.models.retrieve("Systran/faster-whisper-tiny.en");
found.notFound = await failure({ model: "nosuch" });
found.badRequest = await failure({ response_format: "diarized_json" });
found.requests = requests;
console.log(JSON.stringify(found));
