"""Writes a figure as PNG and PDF, atomically; the same figure gives the same bytes."""

from pathlib import Path
from typing import TYPE_CHECKING

from esp_core.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", out: Path) -> None:
    """Write `figure` to `out`, a .png, and a .pdf beside it."""
    from matplotlib import rc_context

    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=figure.dpi)
    with rc_context({"pdf.fonttype": 42}), replacing(out.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, dpi=figure.dpi, metadata={"CreationDate": None})
