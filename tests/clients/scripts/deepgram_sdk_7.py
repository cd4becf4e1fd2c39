"""deepgram-sdk 7: a file, a URL, live audio and a granted token.

python deepgram_sdk_7.py URL KEY FILE PCM_FILE
"""

import json
import sys
import threading

from deepgram import DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment

url, key, file, pcm = sys.argv[1:]
websockets = url.replace("http", "ws", 1)
environment = DeepgramClientEnvironment(base=url, production=websockets, agent=websockets, agent_rest=url)

client = DeepgramClient(api_key=key, environment=environment)
with open(file, "rb") as opened:
    buffer = opened.read()
options = {"model": "nova-3", "smart_format": True, "utterances": True, "diarize": True, "language": "en-US"}
response = client.listen.v1.media.transcribe_file(request=buffer, **options)
alternative = response.results.channels[0].alternatives[0]
try:
    client.listen.v1.media.transcribe_url(url="https://example.com/a.wav", **options)
    refused = ""
except ApiError as exc:
    refused = str(exc)

finals = []
live = {"model": "nova-3", "encoding": "linear16", "sample_rate": "16000", "interim_results": "true"}
with client.listen.v1.connect(**live, language="en-US") as connection:

    def send():
        with open(pcm, "rb") as opened:
            while chunk := opened.read(3200):
                connection.send_media(chunk)
        connection.send_close_stream()

    sending = threading.Thread(target=send)
    sending.start()
    while (message := connection.recv()).type != "Metadata":
        if message.type == "Results" and message.is_final:
            finals.append(message.channel.alternatives[0].transcript)
    sending.join()

token = client.auth.v1.tokens.grant(ttl_seconds=60).access_token
granted = DeepgramClient(access_token=token, environment=environment).listen.v1.media
with_token = granted.transcribe_file(request=buffer, **options)
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
