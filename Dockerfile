# The kit with all its extras. On x86-64 pip takes the CUDA build of torch; the GPU's driver is the host's.
FROM python:3.12-slim-bookworm

# Nothing here needs root once it is installed.
RUN useradd --create-home harrier

COPY . /tmp/harrier-kit
RUN pip install --no-cache-dir '/tmp/harrier-kit[all]' && rm -rf /tmp/harrier-kit

USER harrier
WORKDIR /home/harrier
# A volume that is mounted here takes over its owner, if it is there before.
RUN mkdir -p .cache/huggingface

CMD ["python", "-m", "harrier_cli.demo"]
