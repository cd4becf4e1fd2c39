"""litellm: a file with Deepgram's API.

python litellm_deepgram.py URL KEY FILE PCM_FILE
"""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it is downloaded

import litellm

url, key, file, _ = sys.argv[1:]
with open(file, "rb") as opened:
    response = litellm.transcription(model="deepgram/nova-3", file=opened, api_base=f"{url}/v1", api_key=key)
print(json.dumps({"file": response.text}))
