import asyncio
import json
import sys
import wave

import aiohttp
from livekit import rtc
from livekit.agents import utils
from livekit.plugins import openai

url, path, key = sys.argv[1:]


async def main() -> None:
    with wave.open(path) as file:
        rate, count = file.getframerate(), file.getnframes()
        frame = rtc.AudioFrame(file.readframes(count), rate, 1, count)
    async with aiohttp.ClientSession():
        stt = openai.STT(base_url=f"{url}/v1", api_key=key, model="whisper-1", use_realtime=False)
        event = await stt.recognize(utils.merge_frames([frame]))
    print(json.dumps({"text": event.alternatives[0].text}))


asyncio.run(main())
