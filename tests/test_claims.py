"""The stage `claims`: verdicts from rows written by hand, against scipy's tests and against the paper's own tables."""

import csv
import json
import math
import re

import pandas as pd
import pytest
from handwritten_rows import PUBLISHED, ROOT, put, row_files
from scipy import stats

from esp_core.reporting import verdicts
from esp_core.reporting.claims import read
from esp_core.reporting.verdicts import Sample
from esp_core.runtime.errors import UserError
from esp_core.stages import claims
from esp_core.study import job_specs
from esp_core.study.config import Study, load

OWN = {
    "study": "own",
    "datasets": {"digits": {"ipc": [1, 10], "options": {"size": 32}}},
    "distill_network": {"name": "convnet3"},
    "networks": ["convnet3", "resnet10"],
    "methods": {"random": {}, "dm": {}, "kfs": {}, "esp": {}, "esp_proj": {}, "esp_dm": {}, "full": {}},
}
LISTED = ROOT / "esp_core/reporting/claims.yaml"
CLAIMS = read(LISTED)
ESP = [93.2, 93.9, 92.8, 94.4, 93.6]
KFS = [92.0, 93.0, 91.5, 93.1, 92.8]
DM = [88.1, 89.4, 87.2, 90.6, 88.8]


def judged(results, study):
    """Run the stage; the rows as they are in the CSV, and the Markdown."""
    out = results / "tables/claims.csv"
    spec = json.loads(json.dumps(job_specs.spec(study, "claims")))
    claims.run(spec, row_files(results), sorted(results.glob("figures/*.csv")), PUBLISHED, LISTED, out)
    return pd.read_csv(out, keep_default_na=False, na_values=[""]), out.with_suffix(".md").read_text()


def answer(frame, name, **where):
    """The one row of a claim in one place."""
    for column, value in {"id": name, **where}.items():
        frame = frame[frame[column].astype(str) == str(value)]
    (row,) = frame.to_dict("records")
    return row


def paired(one, other):
    """scipy's paired t-interval of one less other."""
    return tuple(stats.ttest_rel(one, other).confidence_interval(0.95))


@pytest.fixture
def paper():
    return load(ROOT / "config" / "config.yaml")


def test_a_difference_of_two_measured_rows_is_paired_by_seed_as_scipy_does_it(tmp_path):
    for method, values in (("esp", ESP), ("esp_proj", DM), ("esp_dm", KFS)):
        put(tmp_path, "digits", 1, method, values)
    frame, _ = judged(tmp_path, Study(OWN))
    row = answer(frame, "complement", ipc=1)
    assert (row["comparison"], row["comparisons"], row["basis"]) == ("esp - esp_dm", 2, "5 seeds, paired")
    assert (row["low"], row["high"]) == pytest.approx(paired(ESP, KFS), abs=1e-4)
    assert row["verdict"] == "holds" and row["low"] > 0


def test_welch_where_the_other_side_is_quoted(tmp_path, paper):
    ours = [62.0, 63.5, 63.1, 62.6, 62.9]
    put(tmp_path, "cifar10", 1, "esp", ours)
    row, quoted = answer(judged(tmp_path, paper)[0], "kfs_by"), Sample(59.8, 0.5, 5)  # KFS, Table 1
    low, high = verdicts.difference("", Sample(pd.Series(ours).mean(), pd.Series(ours).std(), 5), quoted).interval()
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx((62.82 - 59.8, low, high), abs=1e-4)
    assert row["basis"] == "5 and 5 seeds, Welch"


def test_by_the_papers_own_numbers_its_sentences_hold_where_its_tables_say_so(tmp_path, paper):
    frame, _ = judged(tmp_path, paper)
    assert (frame.verdict == "not measured").all() and frame.estimate.isna().all()
    curves = {claim.id for claim in CLAIMS if claim.test["kind"] in ("flatness", "growth", "batch")}
    assert frame[~frame.id.isin(curves)].paper.notna().all() and frame.id.nunique() == len(CLAIMS)
    best = frame[frame.id == "state_of_the_art"]
    assert len(best) == 10
    lost = best[best.paper_verdict == "does not hold"]
    assert {(row.dataset, int(row.ipc), round(row.paper, 1)) for row in lost.itertuples()} == {
        ("cifar100", 10, -2.6),  # 48.0 below KFS's 50.6
        ("tinyimagenet", 10, -1.2),  # 26.6 below KFS's 27.8
    }
    assert answer(frame, "mtt_by")["paper"] == pytest.approx(63.0 - 46.3)
    assert answer(frame, "kfs_by")["paper"] == pytest.approx(63.0 - 59.8)
    assert answer(frame, "relative_gain", dataset="cifar10")["paper"] == pytest.approx(100 * (63.0 / 59.8 - 1), abs=1e-4)
    assert answer(frame, "complement", ipc=1)["paper"] == pytest.approx(62.6 - 48.0)
    falls = answer(frame, "projection_falls")
    assert (falls["paper"], falls["paper_verdict"], falls["ipc"]) == (pytest.approx(40.6 - 41.3), "holds", "1 10 50")
    assert answer(frame, "larger_network", ipc=1)["paper"] == pytest.approx(84.7 - 84.8)
    lost = frame[(frame.id == "transfer") & (frame.paper_verdict == "does not hold")]
    assert lost[["dataset", "ipc", "network"]].astype(str).values.tolist() == [["cifar10", "50", "densenet121"]]
    assert answer(frame, "distant_network", ipc=50)["paper"] == pytest.approx(63.9 - 75.9)  # Tables 3 and 2


def test_the_authors_own_methods_are_never_quoted_against_ours(tmp_path, paper):
    put(tmp_path, "cifar10", 1, "esp", ESP)
    put(tmp_path, "cifar10", 1, "esp_proj", DM)
    frame, _ = judged(tmp_path, paper)
    assert answer(frame, "complement", ipc=1)["verdict"] == "not measured"
    best = answer(frame, "state_of_the_art", dataset="cifar10", ipc=1)
    assert (best["comparison"], best["verdict"], best["comparisons"]) == ("esp - kfs", "holds", 10)


def test_monotone_claims_compare_each_ipc_with_the_next_and_show_the_worst(tmp_path):
    falling = {1: [30.0, 31.0, 32.0], 10: [25.0, 26.5, 26.9], 50: [25.9, 26.0, 27.0]}
    for ipc, values in falling.items():
        put(tmp_path, "digits", ipc, "esp_proj", values)
    study = Study({**OWN, "datasets": {"digits": {"ipc": [10, 50, 1], "options": {"size": 32}}}})
    row = answer(judged(tmp_path, study)[0], "projection_falls")
    assert (row["comparison"], row["comparisons"], row["ipc"]) == ("IPC 50 - IPC 10", 2, "1 10 50")
    assert (row["low"], row["high"]) == pytest.approx(paired(falling[50], falling[10]), abs=1e-4)
    assert row["verdict"] == "undecided"
    put(tmp_path, "digits", 50, "esp_proj", [20.0, 21.4, 22.0])
    assert answer(judged(tmp_path, study)[0], "projection_falls")["verdict"] == "holds"
    put(tmp_path, "digits", 50, "esp_proj", [35.0, 36.4, 37.0])
    assert answer(judged(tmp_path, study)[0], "projection_falls")["verdict"] == "does not hold"


def write(path, header, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


MEMORY = "method,ipc,steps,bytes,device"


def memory(method, *points):
    return [(method, ipc, steps, size, "gpu") for ipc, steps, size in points]


@pytest.mark.parametrize(
    ("esp", "mtt", "wanted"),
    [
        (
            [*((10, steps, 1000 + steps) for steps in (1, 10, 50)), (1, 10, 1000), (50, 10, 1300)],
            [*((10, steps, 1000 * steps) for steps in (1, 10, 50)), (1, 10, 2000), (50, 10, 30000)],
            [(1050 / 1001, "holds"), (50.0, "holds"), (1.3, "does not hold"), (1.3 / 15, "holds")],
        ),
        # What did not fit is empty: growth is compared as far as both methods fit.
        (
            [(1, 10, 1000), (10, 10, 1500), (50, 10, 9000)],
            [(1, 10, 1000), (10, 10, 6000), (50, 10, "")],
            [None, None, ..., (1.5 / 6, "holds")],
        ),
        # A curve of one point, and a method that the figure lacks.
        ([(10, 1, 1000), (10, 5, 1000)], [], [(1.0, "holds"), None, None, None]),
    ],
)
def test_memory_claims_are_decided_by_figure_7s_bytes(tmp_path, esp, mtt, wanted):
    write(tmp_path / "figures/figure7.csv", MEMORY, *memory("esp", *esp), *memory("mtt", *mtt))
    frame, markdown = judged(tmp_path, Study(OWN))
    for name, answered in zip(("memory_steps", "memory_steps_mtt", "memory_ipc", "memory_growth"), wanted, strict=True):
        row = answer(frame, name)
        if answered is None:
            assert row["verdict"] == "not measured"
        elif answered is not ...:
            assert (row["estimate"], row["verdict"]) == (pytest.approx(answered[0], abs=1e-4), answered[1])
    if len(mtt) > 3:
        assert "| ratio below 1.1 |  | 1.05 (ESP on gpu, ipc 10; exact) | **holds** |" in markdown


def test_batch_claims_are_decided_by_figure_8s_accuracies(tmp_path):
    rows = [("digits", 10, batch, mean, 0.3, 5) for batch, mean in ((1024, 72.9), (64, 70.0), (256, 72.0), (512, 73.0))]
    write(tmp_path / "figures/figure8.csv", "dataset,ipc,synthetic_batch,mean,std,n", *rows, ("other", 10, 64, 1, 1, 5))
    frame, _ = judged(tmp_path, Study(OWN))
    half = stats.t.ppf(0.975, 8) * math.sqrt(2 * 0.3**2 / 5)  # equal deviations and numbers: Welch's freedom is n + m - 2
    rises, flat = answer(frame, "batch_rises"), answer(frame, "batch_flattens")
    assert (rises["comparison"], rises["verdict"]) == ("IPC 10, 1024 - 64", "holds")
    assert (rises["low"], rises["high"]) == pytest.approx((2.9 - half, 2.9 + half), abs=1e-4)
    assert (flat["comparison"], flat["verdict"]) == ("IPC 10, 1024 - 512", "holds")
    assert (flat["low"], flat["high"]) == pytest.approx((-0.1 - half, -0.1 + half), abs=1e-4)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", f"{MEMORY}\nesp,10,1,many,gpu\n"])
def test_a_figure_whose_numbers_cannot_be_read_or_that_no_claim_is_about_is_named(tmp_path, text):
    path = tmp_path / "figures/figure7.csv"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: must have columns method, device, ipc, .*delete it and run again$"):
        judged(tmp_path, Study(OWN))
    path.rename(path.with_stem("figure9"))
    with pytest.raises(UserError, match="no claim is about it; give figure7 or figure8"):
        judged(tmp_path, Study(OWN))


def test_rows_of_two_versions_of_torch_are_refused(tmp_path):
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 1, "dm", DM, torch="2.11.0")
    with pytest.raises(UserError, match="rows of more than one torch"):
        judged(tmp_path, Study(OWN))


def test_a_studys_own_dataset_is_asked_what_can_be_asked_of_any_and_the_rest_is_named(tmp_path):
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 1, "kfs", KFS)
    put(tmp_path, "digits", 1, "esp", DM, network="resnet10")
    put(tmp_path, "digits", 1, "kfs", KFS, network="resnet10")
    frame, markdown = judged(tmp_path, Study(OWN))
    paper_only = {claim.id for claim in CLAIMS if claim.cells and claim.datasets == "paper"}
    assert paper_only and not paper_only & set(frame.id)
    best = answer(frame, "state_of_the_art", ipc=1)
    assert (best["comparison"], best["network"], best["comparisons"]) == ("esp - kfs", "convnet3", 1)
    moved = answer(frame, "transfer", ipc=1)
    assert (moved["network"], moved["verdict"]) == ("resnet10", "does not hold")
    assert (moved["low"], moved["high"]) == pytest.approx(paired(DM, KFS), abs=1e-4)
    assert "distant_network" not in set(frame.id)  # the study lacks EfficientNetV2-S
    assert "Not asked, since the study lacks the dataset: claims about SVHN, CIFAR10, CIFAR100, TinyImageNet." in markdown


def test_the_files_are_markdown_and_html_with_the_same_verdicts(tmp_path):
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 1, "dm", DM)
    frame, markdown = judged(tmp_path, Study(OWN))
    page = (tmp_path / "tables/claims.html").read_text()
    for verdict in ("holds", "not measured"):
        assert page.count(f"<td><b>{verdict}</b></td>") + page.count(f"<td>{verdict}</td>") == (frame.verdict == verdict).sum() > 0
    low, high = paired(ESP, DM)
    mean = sum(ESP) / 5 - sum(DM) / 5
    assert f"| {mean:+.1f} [{low:+.1f}, {high:+.1f}] (ESP − DM; 5 seeds, paired) | **holds** |" in markdown
