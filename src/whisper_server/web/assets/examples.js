// How programs use this server, with its address.

import { copyAndSay } from "./clipboard.js";
import { byId, element } from "./element.js";
import { address } from "./server.js";

/** `wanted`: whether the server wants a key. */
export function showExamples(wanted) {
  const base = address(".").replace(/\/$/, "");
  const made = EXAMPLES.map(([name, write]) => example(name, write(base, wanted)));
  byId("examples").replaceChildren(...made);
}

function example(name, code) {
  const label = element("span", { "aria-live": "polite" }, "Copy");
  const copy = element("button", { type: "button", "aria-label": `Copy the example for ${name}` }, label);
  copy.addEventListener("click", () => copyAndSay(code, label));
  const head = element("div", { class: "head" }, element("h2", {}, name), copy);
  return element("section", { class: "example" }, head, element("pre", { tabindex: 0, role: "region", "aria-label": name }, element("code", {}, code)));
}

const KEY = "wsk-…";

const EXAMPLES = [
  ["curl", (base, key) => `curl${key ? ` -H "Authorization: Bearer ${KEY}"` : ""} -F file=@talk.mp3 ${base}/recognise
curl${key ? ` -H "Authorization: Bearer ${KEY}"` : ""} -F file=@talk.mp3 '${base}/recognise?response_format=srt' > talk.srt`],
  ["Python with requests", (base, key) => `import requests

with open("talk.mp3", "rb") as file:
    answer = requests.post(
        "${base}/recognise",
        files={"file": file},
        data={"word_timestamps": "true"},${key ? `\n        headers={"Authorization": "Bearer ${KEY}"},` : ""}
    )
answer.raise_for_status()
print(answer.json()["transcription"]["text"])`],
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

const answer = await fetch("${base}/recognise", {
  method: "POST",
  body: form,${key ? `\n  headers: { Authorization: "Bearer ${KEY}" },` : ""}
});
const { transcription } = await answer.json();
console.log(transcription.text);`],
  ["Live, over a WebSocket, in Python", (base, key) => `import asyncio, json, sys, websockets  # arecord -q -f S16_LE -r 16000 | python live.py

async def main():
    async with websockets.connect("${base.replace(/^http/, "ws")}/v1/stream"${key ? `,\n            additional_headers={"Authorization": "Bearer ${KEY}"}` : ""}) as socket:
        async def send():
            while piece := await asyncio.to_thread(sys.stdin.buffer.read, 3200):
                await socket.send(piece)
            await socket.send(json.dumps({"type": "end"}))
        sending = asyncio.create_task(send())
        async for message in socket:
            message = json.loads(message)
            if message["type"] == "final":
                print(message["text"])
        await sending

asyncio.run(main())`],
];
