"""livekit-plugins-deepgram: recognize() and stream().

python livekit_deepgram.py URL KEY FILE PCM_FILE
"""

import asyncio
import json
import sys

import aiohttp
from livekit import rtc
from livekit.agents import stt
from livekit.plugins import deepgram

url, key, _, pcm = sys.argv[1:]
RATE = 16_000


async def run():
    with open(pcm, "rb") as opened:
        samples = opened.read()
    async with aiohttp.ClientSession() as session:
        recognizer = deepgram.STT(
            base_url=f"{url}/v1/listen", api_key=key, model="nova-3", language="en-US", http_session=session
        )
        frame = rtc.AudioFrame(samples, RATE, 1, len(samples) // 2)
        recognized = await recognizer.recognize(frame)
        finals = []
        stream = recognizer.stream()
        for start in range(0, len(samples), 3200):
            part = samples[start : start + 3200]
            stream.push_frame(rtc.AudioFrame(part, RATE, 1, len(part) // 2))
        stream.end_input()
        async for event in stream:
            if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
                finals.append(event.alternatives[0].text)
        await stream.aclose()
    print(json.dumps({"file": recognized.alternatives[0].text, "live": finals}))


asyncio.run(run())
