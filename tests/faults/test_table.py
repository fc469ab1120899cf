"""Every row of faults.yaml has its test, in the file that the row names."""

import re
from pathlib import Path

import results

HERE = Path(__file__).parent


def test_every_row_has_a_test_in_its_file():
    tests = {
        (path.name, row)
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(.*\bfault\b", path.read_text(), re.MULTILINE)
        if (row := results.row_of(name))
    }
    wanted = {(row["test"], key) for key, row in results.table().items()}
    assert wanted - tests == set()
    assert {key for _, key in tests} - set(results.table()) == set()
