"""Take away the lock that a killed Snakemake left in this folder, if nothing of it runs here any more.

python workflow/scripts/unlock.py [Snakemake's arguments]
"""

import subprocess
import sys
from pathlib import Path

import psutil


def running(folder: Path) -> list[psutil.Process]:
    """Snakemake and stages of esp_core whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        module = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else []
        ours = any(Path(word).name == "snakemake" for word in words[:2]) or any(
            m == "snakemake" or m.startswith("esp_core.") for m in module
        )
        if ours and process.info["cwd"] == str(folder):
            found.append(process)
    return found


def main() -> None:
    folder = Path.cwd()
    if not any(folder.glob(".snakemake/locks/*.lock")):
        return
    if still := running(folder):
        words = ", ".join(f"{' '.join(p.info['cmdline'][:4])} (process {p.pid})" for p in still)
        sys.exit(f"error: still running in {folder}: {words}; wait for it or end it, then type the same command again")
    print("An earlier run was cut off; taking its lock away and going on.", flush=True)
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock", "--quiet", "all", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
