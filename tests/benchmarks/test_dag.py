from pathlib import Path

from printed import table

from esp_core.study.config import load

DEMO = Path(__file__).parents[2] / "config" / "demo.yaml"


def test_the_graph_of_the_demo_has_the_jobs_of_the_study():
    empty, demo = table("dag", f"--configs {DEMO} --repeats 1")
    assert empty[:2] == ["one rule, no input", "1"]
    jobs = len(list(load(DEMO).jobs()))
    assert jobs <= int(demo[1]) <= jobs + 10  # and the rules that are no stage
    assert float(demo[3]) > 0
