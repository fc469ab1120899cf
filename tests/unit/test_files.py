"""Files that a worn card gives back as something else."""

import pytest

from omega.consul import retire
from omega.core import files


def test_bytes_that_are_no_text_are_read_and_written_back_as_they_were(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\xff\x00\xc3")
    text = files.read(str(path))
    assert text != "a"
    files.write(str(tmp_path / "again"), text)
    assert (tmp_path / "again").read_bytes() == b"a\xff\x00\xc3"


@pytest.mark.parametrize("text", [None, "", '{"server": tr', "[]", "\udcff"])
def test_half_a_configuration_is_no_servers(text):
    assert retire.is_server(text) is False
    assert retire.is_server('{"server": true}') is True
