import json
import sys

from groq import Groq

url, path, key = sys.argv[1:]
client = Groq(base_url=url, api_key=key)
with open(path, "rb") as file:
    transcription = client.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json")
with open(path, "rb") as file:
    translation = client.audio.translations.create(model="whisper-1", file=file)
print(json.dumps({"transcription": transcription.text, "translation": translation.text}))
