import json
import sys

from openai import AzureOpenAI

url, path, key = sys.argv[1:]
client = AzureOpenAI(azure_endpoint=url, api_key=key, api_version="2025-03-01-preview")
with open(path, "rb") as file:
    transcription = client.audio.transcriptions.create(model="tiny.en", file=file)
with open(path, "rb") as file:
    translation = client.audio.translations.create(model="whisper-1", file=file)
print(json.dumps({"transcription": transcription.text, "translation": translation.text}))
