import fs from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_transcribe as transcribe } from "ai";

const [url, path, key] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const printed = {};
for (const model of ["whisper-1", "gpt-4o-transcribe"]) {
  const { text } = await transcribe({ model: openai.transcription(model), audio: fs.readFileSync(path) });
  printed[model] = text;
}
console.log(JSON.stringify(printed));
