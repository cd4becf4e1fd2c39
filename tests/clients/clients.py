"""The clients of other projects that are tested, each with the versions that are known to work."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """`program` is in programs/ and gets the URL of the server, the path of a clip, and a key.

    It prints a JSON object whose values contain the words of the clip. `packages` are those of PyPI, or of npm for a
    program in JavaScript.
    """

    name: str
    program: str
    packages: tuple[str, ...]
    sends_key: bool = True

    def requirements(self, *, latest: bool) -> list[str]:
        """Return the packages with their versions, or without them for the latest."""
        return [re.sub(r"(==|(?<=.)@)\d.*", "", package) if latest else package for package in self.packages]


CLIENTS = (
    Client("OpenAI Python 1", "openai_sdk.py", ("openai==1.109.1",)),
    Client("OpenAI Python 3", "openai_sdk.py", ("openai==3.57.0",)),
    Client("AzureOpenAI", "azure.py", ("openai==3.57.0",)),
    Client("Groq", "groq_sdk.py", ("groq==1.7.0",)),
    Client("LiteLLM", "litellm_sdk.py", ("litellm==1.110.2",)),
    Client(
        "LangChain",
        "langchain.py",
        ("langchain-community==0.4.2", "openai==3.57.0", "pydub==0.25.1", "imageio-ffmpeg==0.6.0"),
    ),
    Client("Haystack", "haystack_ai.py", ("haystack-ai==2.31.0",)),
    Client("SpeechRecognition", "speech_recognition_api.py", ("SpeechRecognition==3.17.0", "openai==3.57.0")),
    Client("OpenAI Agents", "openai_agents.py", ("openai-agents[voice]==0.24.0",)),
    Client("LiveKit", "livekit_openai.py", ("livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9")),
    Client("Pipecat", "pipecat_openai.py", ("pipecat-ai[openai]==1.14.0",)),
    Client("AI SDK", "ai_sdk.mjs", ("ai@7.0.173", "@ai-sdk/openai@4.0.118")),
    Client("whisper-cpp-client", "whisper_cpp.py", ("whisper-cpp-client==0.1.1", "requests==2.32.5"), sends_key=False),
)
