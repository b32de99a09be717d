# By digest in what is built for others: `make image` resolves the tag, and labels the image with it.
ARG BASE=python:3.11-slim
# Where torch and torchvision come from: PyTorch's wheels for the CPU, as the ordinary index's bring
# gigabytes of CUDA along. Empty: wherever pip is configured to look.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# What is installed besides, separated by commas: grpc, onnx, heif, otel, transfer. postgres is always there.
ARG EXTRAS=


FROM ${BASE} AS base
# The official image has no bytecode of the standard library, and at run time nobody can write it.
RUN python -m compileall -q -x '/(site-packages|tests?|lib2to3)/' /usr/local/lib/python3.*/


FROM base AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt .
ARG TORCH_INDEX
# PyTorch's index has files of its own, whose hashes are not in the list; from the ordinary one also CUDA comes.
RUN if [ -n "$TORCH_INDEX" ]; then set -- --no-deps --index-url "$TORCH_INDEX"; fi; \
    pip --python /opt/venv/bin/python install --constraint constraints.txt "$@" torch torchvision
COPY deploy/requirements.txt .
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps --requirement requirements.txt \
    && pip --python /opt/venv/bin/python check
COPY deploy/extras extras
ARG EXTRAS
RUN for extra in $(echo "$EXTRAS" | tr , ' '); do \
        case "$extra" in postgres | store) continue ;; esac; \
        if [ ! -f "extras/$extra.txt" ]; then \
            echo "EXTRAS: there is no '$extra'; choose of postgres store $(cd extras && echo *.txt | sed 's/\.txt//g')" >&2; exit 1; \
        fi; \
        pip --python /opt/venv/bin/python install --require-hashes --no-deps --requirement "extras/$extra.txt" || exit 1; \
    done; \
    pip --python /opt/venv/bin/python check


# What is installed, as CycloneDX: `docker build --target sbom --output . .` writes it alone.
FROM packages AS inventory
COPY deploy/build-requirements.txt .
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes --no-deps --requirement build-requirements.txt \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/venv/bin/python


FROM scratch AS sbom
COPY --from=inventory /sbom.cdx.json /


FROM base AS code
WORKDIR /srv/minist
COPY LICENSE .
COPY app app
COPY minist_client minist_client
COPY models models
COPY training training
# Readable for everybody, whatever the umask of the checkout. The bytecode is never checked against its
# source, which cannot change.
RUN chmod -R u=rwX,go=rX . && python -m compileall -q --invalidation-mode unchecked-hash . \
    && printf '#!/bin/sh\nexec python -P -m app "$@"\n' > /usr/local/bin/minist \
    && chmod 755 /usr/local/bin/minist


FROM base
# Group 0 has the rights of the user: some platforms run every container with a uid of its own and that group.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home minist \
    && install --directory --owner minist --group 0 --mode 0770 /data
COPY --from=packages /opt/venv /opt/venv
COPY --from=inventory /sbom.cdx.json /usr/share/doc/minist/
COPY --from=code /usr/local/bin/minist /usr/local/bin/minist
COPY --from=code /srv/minist /srv/minist
# LOGNAME, for torch: an arbitrary uid has no name. MPLCONFIGDIR: matplotlib wants to keep a cache.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/srv/minist \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOGNAME=minist \
    MPLCONFIGDIR=/tmp/matplotlib \
    MINIST_HOST=0.0.0.0 \
    MINIST_HOME=/data \
    MINIST_DATA_DIR=/data/datasets
ARG BASE
LABEL org.opencontainers.image.base.name=${BASE}
WORKDIR /data
USER 10001:0
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=2s CMD ["minist", "health"]
CMD ["minist", "serve"]
