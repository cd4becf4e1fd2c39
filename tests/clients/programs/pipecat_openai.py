import asyncio
import json
import sys

from pipecat.services.openai.stt import OpenAISTTService

url, path, key = sys.argv[1:]


async def main() -> None:
    service = OpenAISTTService(base_url=f"{url}/v1", api_key=key, model="whisper-1")
    with open(path, "rb") as file:
        frames = [frame async for frame in service.run_stt(file.read())]
    print(json.dumps({"text": " ".join(frame.text for frame in frames)}))


asyncio.run(main())
