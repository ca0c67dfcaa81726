"""The command line, `esp STAGE …` or `python -m esp_core STAGE …`. A stage is imported when it is called."""

import importlib
import sys

from esp_core.runtime.errors import command

COMMANDS = {
    "Stages, as the workflow runs them": {
        "download": ("stages.download", "get the official files of a dataset"),
        "prepare": ("stages.prepare", "read a dataset, check it, write it as one HDF5 file"),
        "trial": ("stages.trial", "build every network and set once, before anything long"),
        "experts": ("stages.experts", "train experts, list them, verify them"),
        "distill": ("stages.distill", "condense one cell by one method; export a set as images"),
        "evaluate": ("stages.evaluate", "train networks on a condensed set, a released one too, and test them"),
        "tables": ("stages.tables", "a table, measured beside published"),
        "comparisons": ("stages.comparisons", "paired differences of methods"),
        "claims": ("stages.claims", "the paper's claims, each with a verdict"),
        "grids": ("stages.grids", "Figures 3 to 6 and 9, grids of synthetic images"),
        "footprint": ("stages.footprint", "memory of a step, for Figure 7"),
        "plots": ("stages.plots", "Figures 7 and 8"),
        "losses": ("stages.losses", "how the losses of a cell fell"),
        "settings": ("stages.settings", "a study's settings, every default filled in"),
    },
    "Tools": {
        "condense": ("stages.condense", "condense a folder of images, without Snakemake"),
        "study": ("study.config", "the jobs of a study, or the spec of one of them"),
        "show": ("stages.show", "where a study's results lie, and its Table 1"),
        "plan": ("planning.plan", "what a study will cost"),
        "import": ("stages.import_set", "a condensed set that somebody else's code made, written as one of ours"),
        "watch": ("stages.watch", "which jobs of a study run, how far they are, their last loss"),
        "release": ("stages.release", "publish condensed sets"),
    },
}


@command
def main() -> None:
    """Run a command. An unknown one ends with exit code 2."""
    known = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(usage())
    elif name not in known:
        sys.exit(f"esp: {name}: no such command; use one of {', '.join(known)}")
    else:
        sys.argv[:2] = [f"esp {name}"]
        importlib.import_module(f"esp_core.{known[name]}").main()


def usage() -> str:
    """All commands, one per line."""
    lines = ["usage: esp COMMAND …        esp COMMAND --help says more"]
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {name:<11} {line}" for name, (_, line) in group.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
