// Shows example programs that contain the address of this server.

import { byId, element } from "../lib/dom.js";
import { copyAndConfirm } from "../lib/export.js";
import { absoluteUrl } from "../lib/http.js";

/** With `keyRequired`, the examples send a key. */
export function showExamples(keyRequired) {
  const base = absoluteUrl(".").replace(/\/$/, "");
  const examples = EXAMPLES.map(([name, write]) => example(name, write(base, keyRequired)));
  byId("examples").replaceChildren(...examples);
}

function example(name, code) {
  const label = element("span", { "aria-live": "polite" }, "Copy");
  const copy = element("button", { type: "button", "aria-label": `Copy the example for ${name}` }, label);
  copy.addEventListener("click", () => copyAndConfirm(code, label));
  const header = element("div", { class: "example-header" }, element("h2", {}, name), copy);
  return element("section", { class: "example" }, header, element("pre", { tabindex: 0, role: "region", "aria-label": name }, element("code", {}, code)));
}

const KEY = "wsk-…";

const EXAMPLES = [
  ["curl", (base, key) => `curl${key ? ` -H "Authorization: Bearer ${KEY}"` : ""} -F file=@talk.mp3 ${base}/recognise
curl${key ? ` -H "Authorization: Bearer ${KEY}"` : ""} -F file=@talk.mp3 '${base}/recognise?response_format=srt' > talk.srt`],
  ["Python with requests", (base, key) => `import requests

with open("talk.mp3", "rb") as file:
    response = requests.post(
        "${base}/recognise",
        files={"file": file},
        data={"word_timestamps": "true"},${key ? `\n        headers={"Authorization": "Bearer ${KEY}"},` : ""}
    )
response.raise_for_status()
print(response.json()["transcription"]["text"])`],
  ["Python with openai", (base, key) => `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${key ? KEY : "none"}")

with open("talk.mp3", "rb") as file:
    stream = client.audio.transcriptions.create(model="whisper-1", file=file, stream=True)
    for event in stream:
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)`],
  ["JavaScript", (base, key) => `const form = new FormData();
form.append("file", input.files[0]);
form.append("word_timestamps", "true");

const response = await fetch("${base}/recognise", {
  method: "POST",
  body: form,${key ? `\n  headers: { Authorization: "Bearer ${KEY}" },` : ""}
});
const { transcription } = await response.json();
console.log(transcription.text);`],
  ["Live captions in Python, over a WebSocket", (base, key) => `import asyncio, json, sys, websockets  # arecord -q -f S16_LE -r 16000 | python live.py

async def main():
    async with websockets.connect("${base.replace(/^http/, "ws")}/v1/stream"${key ? `,\n            additional_headers={"Authorization": "Bearer ${KEY}"}` : ""}) as socket:
        async def send():
            while chunk := await asyncio.to_thread(sys.stdin.buffer.read, 3200):
                await socket.send(chunk)
            await socket.send(json.dumps({"type": "end"}))
        sending = asyncio.create_task(send())
        async for message in socket:
            message = json.loads(message)
            if message["type"] == "final":
                print(message["text"])
        await sending

asyncio.run(main())`],
];
