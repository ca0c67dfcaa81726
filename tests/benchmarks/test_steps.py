from printed import table


def test_the_benchmark_prints_a_row_a_way():
    rows = table("steps", "--ipc 1 --steps 1 3 --size 16 --width 32 --repeats 1 --real-batch 2 --classes 3 --channels 3 --methods dm mtt")
    assert [(row[0], row[2]) for row in rows] == [("dm", "1"), ("mtt", "1"), ("mtt:replay", "1"), ("mtt", "3"), ("mtt:replay", "3")]
    memory = {(row[0], row[2]): float(row[-1]) for row in rows}
    assert memory["mtt", "3"] > 2 * memory["mtt", "1"] and memory["mtt:replay", "3"] < 1.5 * memory["mtt:replay", "1"]
