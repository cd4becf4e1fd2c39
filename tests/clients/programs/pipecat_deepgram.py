"""pipecat's DeepgramSTTService: live audio.

python pipecat_deepgram.py URL KEY FILE PCM_FILE
"""

import asyncio
import json
import sys

from pipecat.frames.frames import EndFrame, InputAudioRawFrame, TranscriptionFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.deepgram.stt import DeepgramSTTService

url, key, _, pcm = sys.argv[1:]
finals = []
done = asyncio.Event()


class Collector(FrameProcessor):
    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            finals.append(frame.text)
        await self.push_frame(frame, direction)


async def run():
    service = DeepgramSTTService(base_url=url, api_key=key, sample_rate=16_000)
    task = PipelineTask(Pipeline([service, Collector()]), params=PipelineParams(audio_in_sample_rate=16_000))

    async def feed():
        with open(pcm, "rb") as opened:
            while chunk := opened.read(3200):
                await task.queue_frame(InputAudioRawFrame(chunk, 16_000, 1))
                await asyncio.sleep(0.1)
        for _ in range(100):
            if finals and "ready" in finals[-1]:
                break
            await task.queue_frame(InputAudioRawFrame(bytes(3200), 16_000, 1))
            await asyncio.sleep(0.1)
        await task.queue_frame(EndFrame())

    feeding = asyncio.create_task(feed())
    await PipelineRunner(handle_sigint=False).run(task)
    await feeding
    print(json.dumps({"live": finals}))


asyncio.run(run())
