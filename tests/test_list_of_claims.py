"""The list of the paper's claims: what each entry must have, what decides it, and a list that cannot be read."""

import math
import re

import pytest
from handwritten_rows import ROOT

from esp_core.reporting.claims import TESTS, Claim, Question, read
from esp_core.runtime.errors import UserError

CLAIMS = read(ROOT / "esp_core/reporting/claims.yaml")


@pytest.mark.parametrize(
    ("decide", "allowed"),
    [
        ({"above": 0}, (0, math.inf)),
        ({"below": 1.1}, (-math.inf, 1.1)),
        ({"about": 16.0}, (8.0, 24.0)),
        ({"within": 1}, (-1, 1)),
        ({"about": {"svhn": 2.0, "cifar10": 4.0}}, (2.0, 6.0)),
    ],
)
def test_what_decides_a_claim(decide, allowed):
    assert Question(Claim("x", "", "", {"kind": "difference"}, decide), "cifar10", (1,)).allowed == allowed


def test_every_claim_has_a_test_and_a_decision_and_an_id_of_its_own():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert len(claim.decide) == 1 and set(claim.decide) <= {"above", "below", "about", "within"}
        assert claim.test["kind"] in TESTS and "of" in claim.test and claim.datasets in ("paper", "any")
        assert (claim.about == "study") != bool(claim.cells)


@pytest.mark.parametrize(
    "text", ["", "claims: [{id: a}]", "claims: [{id: a, claim: b, source: c, test: {kind: other}, decide: {}}]", "claims: {"]
)
def test_a_list_of_claims_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: the list of claims cannot be read .*restore the file$"):
        read(path)
