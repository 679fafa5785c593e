# The bundle as an image, for who builds with Docker alone. It decides nothing: what is inside is
# what `python3 build assemble` made, and `python3 build image` writes the same tree without Docker.
#
# From a fresh clone, with a network:
#   docker build --tag sidecar .
# It is for the machine that builds it; on Arm the builder takes the profile lean, and says so.
# Without one, from a bundle and a base (ci/base) that are there:
#   tar -C bundle/out/linux-x64 -c . | docker import - sidecar-tree
#   docker import bundle/out/base-amd64.tar sidecar-base
#   docker build --build-arg TREE=sidecar-tree --build-arg BASE=sidecar-base --tag sidecar .
#
# BuildKit builds only the stages that are asked for.

# Where the builder runs: any Python 3.11 on glibc.
ARG PYTHON=python:3.11-slim-bookworm
# What has an assembled bundle as its root: the stage below, or an image.
ARG TREE=assembled
# What the bundle stands on: glibc, libstdc++, libgcc and zlib are all it wants.
ARG BASE=foundation
ARG DISTROLESS=gcr.io/distroless/cc-debian12

FROM ${PYTHON} AS builder
WORKDIR /src
COPY . .
RUN ["python3", "build", "assemble", "--output", "/bundle"]

FROM scratch AS assembled
COPY --from=builder /bundle /

# numpy's Fortran library loads zlib, the one that is not there. The builder's Debian is the same release.
FROM ${PYTHON} AS libraries
RUN mkdir -p /foundation/usr/lib && cp -L /lib/*-linux-gnu/libz.so.1 /foundation/usr/lib/

FROM ${DISTROLESS} AS foundation
COPY --from=libraries /foundation/ /

FROM ${TREE} AS tree

FROM ${BASE}
COPY --from=tree --chown=0:0 / /opt/sidecar/
WORKDIR /opt/sidecar
USER 65532:65532
EXPOSE 8421/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["/opt/sidecar/python/bin/python3.11", "-I", "-B", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8421, timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/sidecar/python/bin/python3.11", "-I", "-B", "/opt/sidecar/embedding_sidecar", "--host", "0.0.0.0", "--port", "8421", "--allow-remote"]
