"""Results are kept by row, whatever letter the row's ID begins with."""

import pytest
import report
import results

ROW = {"fault": "a fault", "test": "test_any.py", "bound_s": 10}
ENTRY = {"outcome": results.PASSED, "seconds": 1.0, "bound": 10, "injected": "it", "lost": "nothing", "measured": {}}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Results in a folder of the test's own."""
    monkeypatch.setenv("RPIOMEGA_LAB_DIR", str(tmp_path))
    return results


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("test_f21_leader_killed", "F21"),
        ("test_g01_join_fails", "G01"),
        ("test_x7_other", "X7"),
        ("test_every_row_has_a_test_in_its_file", ""),
        ("test_group_of_rows", ""),
    ],
)
def test_a_test_is_for_the_row_that_its_name_begins_with(name, row):
    assert results.row_of(name) == row


def test_rows_of_every_letter_are_in_the_report(kept, monkeypatch):
    monkeypatch.setattr(results, "table", lambda: {"F21": {"id": "F21", **ROW}, "G01": {"id": "G01", **ROW}})
    results.save("test_f21_a", {"row": "F21", **ENTRY}, "1111111")
    results.save("test_g01_a", {"row": "G01", **ENTRY}, "1111111")
    results.save("test_g01_gone", {"row": "G01", **ENTRY}, "1111111")
    results.prune({"test_g01_a"})
    assert set(results.load()) == {"test_f21_a", "test_g01_a"}
    assert [line[:7] for line in report.lines(results.load())] == ["| F21 |", "| G01 |"]
    assert report.summary(results.load()).startswith("2 of 2 rows passed")


def test_chosen_rows_are_those_of_the_table(kept):
    assert results.chosen("f21, G01 F22", ["F21", "F22", "G01"]) == {"F21", "F22", "G01"}
    assert results.chosen("", ["F21"]) == set()


def test_a_row_that_is_not_there_is_refused_with_those_that_are(kept):
    with pytest.raises(ValueError, match=r"no row G99.*F21.*G01"):
        results.chosen("G99", ["F21", "G01"])
