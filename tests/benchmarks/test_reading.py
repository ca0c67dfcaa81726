from printed import table


def test_the_store_takes_half_the_bytes_and_a_segment_less_time_than_the_whole_file():
    rows = {row[0]: row[1:] for row in table("reading", "--experts 2 --reads 20 --width 64")}
    assert rows.keys() == {"plain: torch.save, 2 a file", "plain: torch.save, 1 a file", "ours, 51 snapshots", "ours, 25 snapshots"}
    assert float(rows["ours, 51 snapshots"][1]) < 0.51 and float(rows["ours, 25 snapshots"][1]) < 0.26
    opening = {name: float(cells[2].split()[0]) for name, cells in rows.items()}
    assert opening["ours, 51 snapshots"] < opening["plain: torch.save, 2 a file"]
