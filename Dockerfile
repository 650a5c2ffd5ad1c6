# Two stages: the first makes the environment and compiles the kernels, the second holds them and nothing else.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE mambalob.py ./
COPY lob lob
COPY models models
COPY inference inference
COPY training training
COPY serve serve
COPY bench bench
RUN python -m venv /opt/mambalob \
 && /opt/mambalob/bin/pip install --no-cache-dir --constraint constraints.txt . \
 && if /opt/mambalob/bin/python -c 'import torch' 2>/dev/null; then echo 'torch must not be in the image' >&2; exit 1; fi
# The kernels, compiled here. Numba keys its cache by processor: on another kind of processor the first start compiles
# them anew into the same folder, which the service's user therefore owns.
ENV NUMBA_CACHE_DIR=/var/cache/mambalob PYTHONSAFEPATH=1
RUN mkdir -p "$NUMBA_CACHE_DIR" && cd / && /opt/mambalob/bin/mambalob doctor --compile

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin mambalob
COPY --from=build /opt/mambalob /opt/mambalob
COPY --from=build --chown=mambalob:mambalob /var/cache/mambalob /var/cache/mambalob
ENV PATH=/opt/mambalob/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/mambalob \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /home
USER mambalob
EXPOSE 8000
# Alive, not ready: readiness is /readyz, which says 503 until the book is live.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["mambalob"]
CMD ["serve", "--symbol", "BTCUSDT", "--depth", "50", "--host", "0.0.0.0"]
