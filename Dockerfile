# whisper-server on CPUs; Dockerfile.cuda is for NVIDIA GPUs. docs/deployment.md says how to run it.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim
LABEL org.opencontainers.image.title="whisper-server" \
      org.opencontainers.image.description="openai-whisper's JSON from faster-whisper models, on CPUs" \
      org.opencontainers.image.licenses="MIT"
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/whisper_server-*.whl)[wyoming]"
# /cache has what can be recreated: models, measurements, the Hugging Face cache. /data has the jobs.
RUN install --directory --owner=10001 --group=10001 /cache \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
ENV XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    WHISPER_SERVER_DATA_DIR=/data \
    WHISPER_SERVER_HOST=0.0.0.0 \
    WHISPER_SERVER_PORT=5000
USER 10001:10001
WORKDIR /cache
VOLUME /cache /data
EXPOSE 5000
# The port opens when the model is loaded; the first start may have to download it.
HEALTHCHECK --start-period=15m --interval=30s --timeout=5s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['WHISPER_SERVER_PORT']}/ready\", timeout=4)"]
ENTRYPOINT ["whisper-server"]
