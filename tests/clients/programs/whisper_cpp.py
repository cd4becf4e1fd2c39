import json
import sys

from whisper_cpp_client import WhisperCppClient

url, path = sys.argv[1:]
host, _, port = url.rpartition(":")
print(json.dumps({"text": json.loads(WhisperCppClient(host, int(port)).transcribe(path))["text"]}))
