import json
import sys

import litellm

url, path, key = sys.argv[1:]
with open(path, "rb") as file:
    transcription = litellm.transcription(model="openai/whisper-1", file=file, api_base=f"{url}/v1", api_key=key)
print(json.dumps({"transcription": transcription.text}))
