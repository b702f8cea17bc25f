# Marquee's server alone: Triton with its Python backend, the front door and its supervisor, on the CPU, without Merlin and PyTorch.
#   docker build -f docker/serving.Dockerfile -t marquee-serving .
#   docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --shm-size 1g \
#       --tmpfs /tmp --tmpfs /work:exec,mode=1777 -v "$PWD/runs/ml-100k:/exported:ro" \
#       -p 127.0.0.1:8001:8001 marquee-serving
# /exported is the folder around the repository: a new version takes the repository's name, and what is mounted itself stays the old
# one. The server writes to /work and /tmp only. /work holds the copy that is served and the programs that Triton starts for each model, so it has
# to be mounted with exec. Any user id works.
FROM python:3.11-slim-bookworm AS packages

COPY docker/serving.lock /tmp/serving.lock
RUN python -m venv /opt/marquee \
    && /opt/marquee/bin/python -m pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r /tmp/serving.lock

FROM python:3.11-slim-bookworm

# A user without an entry in /etc/passwd has no home: /tmp is that of every user.
RUN useradd --no-create-home --home-dir /tmp --uid 10001 marquee && install -d -o marquee -g marquee /work
COPY --from=packages /opt/marquee /opt/marquee
WORKDIR /marquee
COPY core core
COPY marquee marquee
COPY workflows workflows
COPY models models
COPY ensemble ensemble
ENV PATH=/opt/marquee/bin:$PATH HOME=/tmp USER=marquee PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
# Compiled once, as the file system is read-only when it runs.
RUN python -m compileall -q core marquee workflows models ensemble
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001

EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s CMD ["python", "-m", "marquee", "health"]
ENTRYPOINT ["python", "-m", "marquee"]
CMD ["serve", "--repository", "/exported/repository", "--work-dir", "/work", "--log", "/work/triton.log", "--host", "0.0.0.0"]
