# The workflow with the versions of requirements.txt. Not built yet: no engine was at hand where it was written.
#
#     docker build --tag esp .
#     docker run --rm --volume "$PWD":/work esp --configfile config/demo.yaml
FROM python:3.11-slim

# The compiler is what torch.compile calls on a processor.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

COPY requirements.txt /opt/esp/
RUN python -m pip install --no-cache-dir --requirement /opt/esp/requirements.txt

COPY pyproject.toml README.md LICENSE /opt/esp/
COPY esp_core /opt/esp/esp_core
COPY workflow /opt/esp/workflow
RUN python -m pip install --no-cache-dir --no-deps --editable /opt/esp

WORKDIR /work
ENTRYPOINT ["snakemake", "--snakefile", "/opt/esp/workflow/Snakefile"]
