# Where torch and torchvision come from: PyTorch's wheels for the CPU, as the ordinary index's bring
# gigabytes of CUDA along. Empty: wherever pip is configured to look.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu


FROM python:3.11-slim AS base
# The official image has no bytecode of the standard library, and at run time nobody can write it.
RUN python -m compileall -q -x '/(site-packages|tests?|lib2to3)/' /usr/local/lib/python3.*/


# A stage of its own: a change of pyproject.toml elsewhere than in this list installs nothing anew.
FROM base AS requirements
COPY pyproject.toml .
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > requirements.txt


FROM base AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt .
ARG TORCH_INDEX
# In two steps, since PyTorch's index need not have the pinned versions of what torch needs.
RUN pip --python /opt/venv/bin/python install --constraint constraints.txt --no-deps \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision \
    && pip --python /opt/venv/bin/python install --constraint constraints.txt torch torchvision
COPY --from=requirements requirements.txt .
RUN pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt


FROM base AS code
WORKDIR /srv/minist
COPY LICENSE .
COPY app app
COPY models models
COPY training training
# Readable for everybody, whatever the umask of the checkout. The bytecode is never checked against its
# source, which cannot change.
RUN chmod -R u=rwX,go=rX . && python -m compileall -q --invalidation-mode unchecked-hash .


FROM base
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home minist \
    && install --directory --owner minist --group minist /data
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /srv/minist /srv/minist
# MPLCONFIGDIR: training draws pictures, and matplotlib wants to keep a cache.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MINIST_HOST=0.0.0.0 \
    MINIST_PORT=8000 \
    MINIST_HOME=/data \
    MINIST_DATA_DIR=/data/datasets
WORKDIR /srv/minist
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# http.client, since urllib would ask the proxy that Docker may hand to containers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-IS", "-c", "import http.client, os; c = http.client.HTTPConnection('localhost', os.environ['MINIST_PORT'], timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app"]
