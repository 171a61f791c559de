# Two images of one build: `--target serving` (the default) is `knudge`, which serves the function that FUNCTION names;
# `--target training` is `knudge-train`, for jobs, `analyse` and the command `knudge`. `make image` builds both;
# docs/operations/images.md says what they promise.

# Any Debian-like image with Python 3.11 or newer and pip will do: only what the functions need is taken from it.
ARG BASE=python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${BASE} AS build
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY knative/image/root.py pyproject.toml constraints.txt ./

FROM build AS build-serving
RUN python3 root.py requirements pyproject.toml > serving.txt \
 && python3 -m pip install --quiet -c constraints.txt -r serving.txt --target packages \
 && python3 root.py runtime packages serving \
 && rm -r packages
COPY shared source/shared
COPY functions source/functions
RUN python3 root.py code source serving-code --without \
      functions/analyse functions/console functions/local functions/train shared/experiments/statistics

# What both images say and promise. There is no shell in them: python is process 1, and gets SIGTERM itself.
FROM scratch AS image
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=""
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONNOUSERSITE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM

FROM image AS serving
LABEL org.opencontainers.image.title="knudge" \
      org.opencontainers.image.description="Knudge: one function, chosen by FUNCTION"
COPY --from=build-serving /build/serving/ /
COPY --from=build-serving /build/serving-code/ /
# One thread of linear algebra: a pod has a share of a node's cores, and OpenBLAS would start a thread for each of them.
ENV OPENBLAS_NUM_THREADS=1
EXPOSE 8080 9095
ENTRYPOINT ["python3", "-m", "shared.edge.hosting"]

FROM build AS build-training
RUN python3 root.py requirements pyproject.toml operate console analysis > training.txt \
 && python3 -m pip install --quiet -c constraints.txt -r training.txt --target packages \
 && python3 root.py runtime packages training \
 && rm -r packages
COPY shared source/shared
COPY functions source/functions
COPY knative source/knative
RUN python3 root.py code source training-code --without functions/local knative/image knative/checks \
 && python3 root.py command training-code knudge functions.console.main

FROM image AS training
LABEL org.opencontainers.image.title="knudge-train" \
      org.opencontainers.image.description="Knudge: training, analyses, migrations, roll-outs and dead letters"
COPY --from=build-training /build/training/ /
COPY --from=build-training /build/training-code/ /
ENV MPLCONFIGDIR=/tmp
ENTRYPOINT ["knudge"]
CMD ["--help"]

# Without a target, the serving image.
FROM serving
