# One image for everything: `batchmill worker …`, `batchmill serve`, `batchmill db upgrade`, `batchmill submit …`.
#   docker build -t batchmill .                              torch's CUDA build, for GPUs (and CPUs)
#   docker build --build-arg EXTRAS="" -t batchmill:light .  only what submits and polls
#   docker build --build-arg EXTRAS="[serve]" -t batchmill:server .  only what serves HTTP
#   docker build --build-arg COMMIT=g$(git rev-parse --short=12 HEAD) …  results then name the commit
FROM python:3.12-slim AS build
ARG EXTRAS="[worker,serve]"
ARG COMMIT=""
WORKDIR /src
RUN python -m venv /opt/batchmill
COPY constraints.txt pyproject.toml README.md LICENSE batchmill.py ./
COPY models models
COPY producer producer
COPY worker worker
COPY migrations migrations
COPY build_hooks build_hooks
RUN --mount=type=cache,target=/root/.cache/pip \
    BATCHMILL_COMMIT="$COMMIT" /opt/batchmill/bin/pip install -c constraints.txt ".${EXTRAS}"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 batchmill \
 && install -d -o batchmill -g batchmill /data /files /models
COPY --from=build /opt/batchmill /opt/batchmill
ENV PATH=/opt/batchmill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BATCHMILL_HOME=/data \
    BATCHMILL_LOG_FORMAT=json \
    HF_HOME=/models
USER batchmill
WORKDIR /data
# Workers finish their micro-batch and give the rest back on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["batchmill"]
CMD ["--help"]
