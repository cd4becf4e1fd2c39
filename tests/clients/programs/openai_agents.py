import asyncio
import json
import sys
import wave

import numpy as np
from agents.voice import AudioInput, OpenAIVoiceModelProvider, STTModelSettings

url, path, key = sys.argv[1:]


async def main() -> None:
    with wave.open(path) as file:
        clip = AudioInput(np.frombuffer(file.readframes(file.getnframes()), np.int16), frame_rate=file.getframerate())
    model = OpenAIVoiceModelProvider(api_key=key, base_url=f"{url}/v1").get_stt_model("gpt-4o-transcribe")
    text = await model.transcribe(
        clip, STTModelSettings(), trace_include_sensitive_data=False, trace_include_sensitive_audio_data=False
    )
    print(json.dumps({"text": text}))


asyncio.run(main())
