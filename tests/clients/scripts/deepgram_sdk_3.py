"""deepgram-sdk 3 and 4: a file, a URL, live audio and a granted token.

python deepgram_sdk_3.py URL KEY FILE PCM_FILE
"""

import json
import sys
import threading

from deepgram import DeepgramClient, DeepgramClientOptions, LiveOptions, LiveTranscriptionEvents, PrerecordedOptions

url, key, file, pcm = sys.argv[1:]


def client_of(secret, **options):
    return DeepgramClient(secret, DeepgramClientOptions(url=url, **options))


client = client_of(key)
options = PrerecordedOptions(model="nova-3", smart_format=True, utterances=True, diarize=True, language="en-US")
with open(file, "rb") as opened:
    buffer = opened.read()
response = client.listen.rest.v("1").transcribe_file({"buffer": buffer}, options)
alternative = response.results.channels[0].alternatives[0]
try:
    client.listen.rest.v("1").transcribe_url({"url": "https://example.com/a.wav"}, options)
    refused = ""
except Exception as exc:
    refused = str(exc)

finals, finalized = [], threading.Event()


def on_transcript(self, result, **kwargs):
    if result.is_final:
        finals.append(result.channel.alternatives[0].transcript)
    if result.from_finalize:
        finalized.set()


connection = client.listen.websocket.v("1")
connection.on(LiveTranscriptionEvents.Transcript, on_transcript)
connection.start(
    LiveOptions(model="nova-3", encoding="linear16", sample_rate=16000, interim_results=True, language="en-US")
)
with open(pcm, "rb") as opened:
    while chunk := opened.read(3200):
        connection.send(chunk)
connection.finalize()
finalized.wait(60)
connection.finish()

token = client.auth.v("1").grant_token().access_token
granted = client_of(token, headers={"Authorization": f"Bearer {token}"}).listen.rest.v("1")
with_token = granted.transcribe_file({"buffer": buffer}, options)
print(
    json.dumps(
        {
            "file": alternative.transcript,
            "words": len(alternative.words),
            "paragraphs": len(alternative.paragraphs.paragraphs),
            "utterances": len(response.results.utterances),
            "warnings": [warning["parameter"] for warning in response.metadata.warnings],
            "refused": refused,
            "live": [final for final in finals if final],
            "granted": with_token.results.channels[0].alternatives[0].transcript,
        }
    )
)
