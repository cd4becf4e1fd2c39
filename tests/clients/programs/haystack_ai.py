import json
import sys

from haystack.components.audio import RemoteWhisperTranscriber
from haystack.utils import Secret

url, path, key = sys.argv[1:]
transcriber = RemoteWhisperTranscriber(api_key=Secret.from_token(key), api_base_url=f"{url}/v1")
documents = transcriber.run(sources=[path])["documents"]
print(json.dumps({"documents": " ".join(document.content for document in documents)}))
