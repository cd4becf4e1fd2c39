import json
import sys

from imageio_ffmpeg import get_ffmpeg_exe
from langchain_community.document_loaders.parsers.audio import OpenAIWhisperParser
from langchain_core.documents.base import Blob
from pydub import AudioSegment

AudioSegment.converter = get_ffmpeg_exe()
url, path, key = sys.argv[1:]
parser = OpenAIWhisperParser(api_key=key, base_url=f"{url}/v1")
documents = parser.parse(Blob.from_path(path))
print(json.dumps({"documents": " ".join(document.page_content for document in documents)}))
