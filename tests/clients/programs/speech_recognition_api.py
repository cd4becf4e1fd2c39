import json
import os
import sys

import speech_recognition

url, path, key = sys.argv[1:]
os.environ.update(OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY=key)
recognizer = speech_recognition.Recognizer()
with speech_recognition.AudioFile(path) as source:
    clip = recognizer.record(source)
print(json.dumps({"text": recognizer.recognize_openai(clip, model="whisper-1")}))
