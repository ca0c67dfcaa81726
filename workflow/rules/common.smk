import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    import esp_core
except ModuleNotFoundError:
    raise WorkflowError(
        "the package esp_core is not installed here; run make, or pip install --editable . in the checkout"
    ) from None

PACKAGE = Path(esp_core.__file__).parent
BESIDE = Path(workflow.current_basedir).parents[1] / "esp_core"
if BESIDE.is_dir() and BESIDE.resolve() != PACKAGE.resolve():
    raise WorkflowError(
        f"esp_core is installed from {PACKAGE}, this workflow is that of {BESIDE}; run make in this checkout"
    )

# A job's `python` is the one that runs Snakemake, also where nobody activated its environment. Not by shell.prefix, which would come
# after a rule's conda environment; that one has what the package needs and finds the package itself in the checkout.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
if "site-packages" not in PACKAGE.parts:
    os.environ.update(
        PYTHONPATH=os.pathsep.join(
            filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])
        )
    )


from esp_core.datasets.catalogue import is_official
from esp_core.runtime.errors import UserError
from esp_core.study.config import Study
from esp_core.study.configfile import anchored, read, refuse_nested
from esp_core.study.gpu import device_type, threads
from esp_core.study.methods import FULL
from esp_core.study.provenance import canonical
from esp_core.study.code_digest import code
from esp_core.study import output_paths
from esp_core.study.job_specs import spec


def without_pathvars(settings):
    """What of a config is the study's; `pathvars` is Snakemake's."""
    return {key: value for key, value in settings.items() if key != "pathvars"}


try:
    # Read as Snakemake has read them already, for what YAML drops.
    files = {file: read(file) for file in workflow.configfiles}
    refuse_nested(without_pathvars(workflow.config_settings.config))
    STUDY = Study(anchored(without_pathvars(config), files))
except UserError as error:
    raise WorkflowError(f"the study's config is wrong\n{error}") from None

# The paper's numbers and claims, a part of the package.
PUBLISHED = os.path.relpath(PACKAGE / "reporting" / "published.csv")
CLAIMS = os.path.relpath(PACKAGE / "reporting" / "claims.yaml")


wildcard_constraints:
    study=re.escape(STUDY.name),
    dataset="|".join(map(re.escape, STUDY.datasets)),
    shard="|".join(
        dict.fromkeys(f"{n:03}" for d in STUDY.datasets for n in STUDY.shards(d))
    ),
    ipc="|".join(dict.fromkeys(str(ipc) for _, ipc in STUDY.cells)),
    method="|".join(STUDY.methods),
    network="|".join(map(re.escape, STUDY.networks)),
    table="|".join(n if n.isdecimal() else f"-{n}" for n in STUDY.tables),
    figure="|".join(map(re.escape, STUDY.figures)),


def whole_trial(wildcards, output):
    """All networks and sets of a dataset. Snakemake compares no function of `output`, so that a new method trains no expert again."""
    return canonical(spec(STUDY, "trial", wildcards.dataset))


def asked_device(wildcards, output):
    """The device that the study asks for. Snakemake compares no function of `output`: where a job runs is not what it computes."""
    return STUDY.config["device"]


def device():
    """What jobs compute on: cuda, mps or cpu."""
    # A dry run knows nothing of the executor but what only a cluster needs, the most jobs at once.
    planned = workflow.dryrun and workflow.resource_settings.nodes
    elsewhere = planned or workflow.remote_exec or workflow.non_local_exec
    return device_type(STUDY.config["device"], elsewhere)


def gpus(wildcards):
    """The GPUs of a job that trains networks."""
    return int(device() != "cpu")


def cores(wildcards):
    """The threads of a job that trains networks."""
    return threads(device())


def spec_of(stage):
    """The spec of a job, from its wildcards alone, as one string that Snakemake compares."""
    return lambda wildcards: canonical(spec(STUDY, stage, *arguments(stage, wildcards)))


def code_of(stage):
    """The digest of the code that a job runs."""
    return lambda wildcards: code(STUDY, stage, *arguments(stage, wildcards))


def arguments(stage, wildcards):
    given = {"ipc": "0", "method": FULL, **dict(wildcards.items())}
    spelled = {"shard": lambda text: str(int(text)), "table": table_name}
    return [
        spelled.get(name, str)(given[name]) for name in output_paths.ARGUMENTS[stage]
    ]


def table_name(text):
    """What the config calls a table, by what follows "table" in its file's name: 1, or -mine."""
    return text.removeprefix("-")


def path(stage, *job):
    """The first output of a job, as its rule spells it."""
    return f"<results>/{output_paths.output(STUDY.name, stage, *map(str, job))}"


def every(*stages):
    """The files of all jobs of some stages."""
    return lambda wildcards: [path(*job) for job in STUDY.jobs() if job[0] in stages]


def kind(wildcards):
    """How a dataset is read."""
    return STUDY.datasets[wildcards.dataset]["kind"]


def fetched_from(wildcards, output):
    """The spec of a download. Snakemake compares no function of `output`: verified files stay, whatever the mirror or the code."""
    return canonical(spec(STUDY, "download", wildcards.dataset))


def official(wildcards):
    """The official files of a dataset, if it has any."""
    return [path("download", wildcards.dataset)] if is_official(kind(wildcards)) else []


def shards(wildcards):
    """The shards that hold the experts of a dataset."""
    numbers = STUDY.shards(wildcards.dataset)
    return [path("experts", wildcards.dataset, number) for number in numbers]


def manifest(wildcards):
    """The list of the experts of a dataset, if the method uses them."""
    cell = wildcards.dataset, int(wildcards.ipc), wildcards.method
    if not STUDY.uses_experts(*cell):
        return []
    own = STUDY.experts(wildcards.dataset).get("import")
    return [own or path("manifest", wildcards.dataset)]


def taught_by(wildcards):
    """The shards behind the manifest."""
    imported = "import" in STUDY.experts(wildcards.dataset)
    return shards(wildcards) if manifest(wildcards) and not imported else []


def methods_of(imported):
    """A pattern of the methods whose sets are imported, or are not."""
    names = [name for name in STUDY.methods if STUDY.is_imported(name) == imported]
    return "|".join(names) or "(?!)"


def others_files(wildcards):
    """The files of a set that somebody else's code made."""
    return STUDY.files(wildcards.dataset, int(wildcards.ipc), wildcards.method)


def option(name, key):
    """A command-line option for an input that some jobs of a rule lack."""

    def params(wildcards, input):
        files = input.get(key) or []
        words = [name, files] if isinstance(files, str) else [name, *files]
        return shlex.join(words) if files else ""

    return params


def evaluated(wildcards):
    """The measured rows of a table."""
    return [
        path("evaluate", *row)
        for row in STUDY.tables[table_name(wildcards.table)].rows()
    ]


def compared(wildcards):
    """The measured rows of methods that are compared."""
    pairs = [
        path("evaluate", dataset, ipc, method, network)
        for *methods, dataset, ipc, network in STUDY.compared()
        for method in methods
    ]
    return list(dict.fromkeys(pairs))


def pictured(wildcards):
    """The condensed sets that a grid shows."""
    return [path("distill", *cell) for cell in STUDY.figures[wildcards.figure].cells]


def swept(wildcards):
    """The measured rows of Figure 8."""
    cells = STUDY.figures["figure8"].cells
    networks = [STUDY.distill_network(cell[0])["name"] for cell in cells]
    return [path("evaluate", *cell, name) for cell, name in zip(cells, networks)]


def sets_of(wildcards):
    """The condensed sets of a cell."""
    cell = wildcards.dataset, int(wildcards.ipc)
    return [path("distill", *one) for one in STUDY.condensed() if one[:2] == cell]


def rows_of(wildcards):
    """The measured rows of a cell."""
    cell = wildcards.dataset, int(wildcards.ipc)
    return [path("evaluate", *row) for row in STUDY.rows() if row[:2] == cell]


def measured_shape(wildcards):
    """The dataset whose shape Figure 7 takes."""
    return path("prepare", STUDY.figures["figure7"].dataset)


def numbers_of_figures(wildcards):
    """The numbers behind Figures 7 and 8, where the study draws them."""
    drawn = [path(*job) for job in STUDY.jobs() if job[0] in ("footprint", "plots")]
    return list(dict.fromkeys(str(Path(file).with_suffix(".csv")) for file in drawn))
