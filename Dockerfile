# syntax=docker/dockerfile:1
# The `harrier` command, with both stores and all frameworks' surfaces.
#
#   docker build --tag harrier-kit:cpu .                             # an image of some 2 GB
#   docker build --tag harrier-kit:cuda --build-arg TORCH=cuda .     # some 8 GB; the GPU's driver is the host's
#   docker run --rm --volume harrier-models:/home/harrier/.cache/huggingface --volume harrier-indexes:/data \
#       --volume "$PWD/notes:/data/notes:ro" harrier-kit:cpu ingest notes --to pgvector:index --model harrier-270m
#
# `docker stop` ends a command as Ctrl-C does: stored chunks stay, and the same command continues from there.
FROM python:3.12-slim-bookworm

# tini hands signals on, and reaps the processes that an embedded server leaves behind.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*

RUN python -m venv /opt/harrier
ENV PATH=/opt/harrier/bin:$PATH PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip

# What we depend on, in layers that a change to our sources leaves as they are. torch first: it is most of the image.
WORKDIR /tmp/harrier-kit
COPY constraints.txt .
ARG TORCH=cpu
RUN --mount=type=cache,target=/var/cache/pip,sharing=locked \
    case "$TORCH" in \
        cpu) pip install --constraint constraints.txt --no-deps --index-url https://download.pytorch.org/whl/cpu torch ;; \
        cuda) pip install --constraint constraints.txt torch ;; \
        *) echo "TORCH must be cpu or cuda, got '$TORCH'" >&2; exit 2 ;; \
    esac

COPY pyproject.toml .
RUN --mount=type=cache,target=/var/cache/pip,sharing=locked <<EOF
set -e
python - > requirements.txt <<'PYTHON'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
names = re.findall(r"[\w-]+", extras["all"][0].partition("[")[2])
asked = [*project["dependencies"], *(each for name in names for each in extras[name])]
print(*(each for each in asked if not each.startswith("harrier-kit")), "hatchling", sep="\n")
PYTHON
pip install --constraint constraints.txt --requirement requirements.txt
EOF

COPY . .
RUN pip install --no-deps --no-build-isolation --no-cache-dir . && rm -rf /tmp/harrier-kit/*

# Nothing here needs root once it is installed. A volume takes over the owner of the folder that it is mounted on.
RUN useradd --create-home --uid 1000 harrier \
    && install --directory --owner=harrier --group=harrier /data \
        /home/harrier/.cache /home/harrier/.cache/huggingface
USER harrier
WORKDIR /data

ENTRYPOINT ["tini", "--", "harrier"]
CMD ["--help"]
