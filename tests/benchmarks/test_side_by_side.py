from printed import table


def test_both_ways_train_alike():
    rows = table("side_by_side", "--networks convnet3 resnet10 --ipc 2 --size 16 --classes 3 --epochs 2 --seeds 2 --repeats 1")
    assert [row[:2] for row in rows] == [["convnet3", "2"], ["resnet10", "2"]]
    for row in rows:
        alone, together, ratio = float(row[2].split()[0]), float(row[3].split()[0]), float(row[4])
        assert abs(alone / together - ratio) < 0.1 * ratio + 0.1
        assert float(row[5]) < 1e-3
