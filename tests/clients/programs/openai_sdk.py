import json
import sys

from openai import OpenAI

url, path, key = sys.argv[1:]
client = OpenAI(base_url=f"{url}/v1", api_key=key)
ask = client.audio.transcriptions.create
with open(path, "rb") as file:
    printed = {"json": ask(model="whisper-1", file=file).text}
with open(path, "rb") as file:
    verbose = ask(model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word"])
    printed["words"] = [word.word for word in verbose.words]
with open(path, "rb") as file:
    printed["srt"] = ask(model="whisper-1", file=file, response_format="srt")
with open(path, "rb") as file:
    events = list(ask(model="gpt-4o-transcribe", file=file, stream=True))
    printed["deltas"] = "".join(event.delta for event in events if event.type == "transcript.text.delta")
with open(path, "rb") as file:
    printed["translation"] = client.audio.translations.create(model="whisper-1", file=file).text
print(json.dumps(printed))
