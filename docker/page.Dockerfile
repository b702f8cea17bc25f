# The page alone, beside a server: no Merlin, no PyTorch, no Triton.
#   docker build -f docker/page.Dockerfile -t marquee-page .
#   docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp \
#       -v "$PWD/runs:/marquee/runs:ro" -v marquee-people:/people -e MARQUEE_URL=SERVER:8001 \
#       -p 127.0.0.1:8501:8501 marquee-page --dataset ml-100k
# It reads the run folder, and writes to /people (who rated what) and /tmp only. The page asks for no password.
FROM python:3.11-slim-bookworm AS packages

COPY docker/page.lock /tmp/page.lock
RUN python -m venv /marquee/.venv-dashboard \
    && /marquee/.venv-dashboard/bin/python -m pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        -r /tmp/page.lock \
    && touch /marquee/.venv-dashboard/.ready

FROM python:3.11-slim-bookworm

# A user without an entry in /etc/passwd has no home: /tmp is that of every user. /people is for every user, too.
RUN useradd --no-create-home --home-dir /tmp --uid 10001 marquee && install -d -m 1777 /people
WORKDIR /marquee
COPY --from=packages /marquee/.venv-dashboard .venv-dashboard
COPY core core
COPY marquee marquee
COPY workflows workflows
COPY models models
COPY ensemble ensemble
COPY dashboard dashboard
ENV PATH=/marquee/.venv-dashboard/bin:$PATH HOME=/tmp USER=marquee PYTHONUNBUFFERED=1
# Compiled once, as the file system is read-only when it runs. `runs` is there to be mounted over.
RUN python -m compileall -q core marquee workflows models ensemble dashboard && mkdir runs
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001

EXPOSE 8501
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
ENTRYPOINT ["python", "-m", "marquee", "dashboard", "--host", "0.0.0.0", "--database", "/people/people.sqlite3"]
CMD ["--dataset", "ml-100k"]
