# The worker's image. Stage one makes a virtual environment out of hash-locked requirements and nothing else; stage two is the
# base with that environment, and without what could install more. The demo and its Kafka are not in it: .dockerignore leaves them
# out. The commands of the command line are its arguments: `docker run … run`, `… check`, `… topics create`. In a release, name the
# base by its digest: --build-arg BASE=…@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS build
# What is installed: requirements-msk-iam.txt also has what signs in to Amazon MSK with IAM.
ARG LOCK=requirements.txt
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# binutils has `strip`: wheels bring debug information, a fifth of the image. It stays in this stage; of tini, one file goes on.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends binutils tini && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.txt requirements-build.txt requirements-msk-iam.txt ./
# One dependency has no wheel: it is built with the locked setuptools, not with what an isolated build would fetch unhashed.
RUN python3 -m venv /opt/worker \
    && /opt/worker/bin/pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements-build.txt \
    && /opt/worker/bin/pip install --quiet --no-compile --no-deps --require-hashes --no-build-isolation --use-pep517 --requirement "${LOCK}" \
    && find /opt/worker -name '*.so' -exec strip --strip-unneeded {} +
COPY pyproject.toml README.md LICENSE ./
COPY worker ./worker
# Compiled once, at the end, by the hashes of the sources and not by their times: so the same sources make the same image.
RUN /opt/worker/bin/pip install --quiet --no-compile --no-deps --no-index --no-build-isolation . \
    && /opt/worker/bin/pip check \
    && /opt/worker/bin/pip uninstall --quiet --yes setuptools pip \
    && find /opt/worker -name __pycache__ -prune -exec rm -rf {} + \
    && PYTHONHASHSEED=0 /opt/worker/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/worker/lib

FROM ${BASE}
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="moderation-worker" \
      org.opencontainers.image.description="Executes moderation commands from Kafka on Tencent Cloud Chat" \
      org.opencontainers.image.authors="The moderation-worker developers" \
      org.opencontainers.image.vendor="The moderation-worker developers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://github.com/moderation-worker/moderation-worker" \
      org.opencontainers.image.source="https://github.com/moderation-worker/moderation-worker" \
      org.opencontainers.image.documentation="https://github.com/moderation-worker/moderation-worker/blob/v${VERSION}/README.md" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# Package managers go (the list of packages stays, for scanners), and the user gets a name for those who look.
RUN rm -rf /usr/bin/apt* /usr/bin/dpkg* /usr/sbin/dpkg* /usr/lib/apt /etc/apt /var/cache/apt /var/lib/apt \
        /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip \
        /usr/lib/python3.*/ensurepip /usr/share/python-wheels \
    && echo 'worker:x:10001:10001::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'worker:x:10001:' >> /etc/group
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/worker /opt/worker
ENV PATH=/opt/worker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /
EXPOSE 9000
# For plain Docker; Kubernetes has its own probes. Of the settings it reads one variable, the port's: where the file names another port
# or host, give --health-cmd or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('WORKER_SERVER__PORT', '9000') + '/livez', timeout=2)"]
# A container's first process ignores SIGTERM until it has a handler: a pod deleted while Python still starts would hang for its
# whole grace. tini is first instead, and passes signals on.
ENTRYPOINT ["tini", "--", "moderation-worker"]
CMD ["run"]
