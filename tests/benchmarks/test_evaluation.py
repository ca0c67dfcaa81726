from printed import table

from benchmarks.precision import summary


def test_both_ways_stand_side_by_side_for_every_network():
    options = "--images 40 --size 32 --repeats 2 --job 1 --narrow --networks convnet3 resnet10 densenet121"
    rows = table("evaluation", options)
    assert [row[0] for row in rows] == ["convnet3", "resnet10", "densenet121"]
    for row in rows:
        plain, auto, ratio = float(row[1].split()[0]), float(row[2].split()[0]), float(row[3])
        assert abs(auto / plain - ratio) < 0.02 * ratio + 0.01
        assert "eager" in row[4] and row[5] == "0"  # a job of one epoch is not worth compiling


def test_the_interval_of_paired_differences_is_student_s():
    # Differences 1, 2, 3, 4: mean 2.5, standard deviation 1.2910, t of 3 degrees of freedom 3.1824.
    assert summary([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]) == "| mean | 0.00 | 2.50 | +2.50 ± 2.05 (n = 4) |"
