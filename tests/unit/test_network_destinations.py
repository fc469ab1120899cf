"""Where a board is looked for first: once its own address is known, the address it was found at may be another's."""

import pytest
from rpiomega.ssh import Pool, Settings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIGQs8abcdefghijklmnopqrstuvwxyz0123456789ABCD"


@pytest.mark.parametrize(
    ("known", "port", "first"),
    [
        ("", 22, "raspberrypi.local"),
        (f"raspberrypi.local {KEY}", 22, "raspberrypi.local"),
        (f"192.168.1.10 {KEY}", 22, "192.168.1.10"),
        (f"192.168.1.10 {KEY}", 2222, "raspberrypi.local"),
        (f"[192.168.1.10]:2222 {KEY}", 2222, "192.168.1.10"),
    ],
)
def test_a_known_address_is_asked_first(tmp_path, known, port, first):
    hosts = tmp_path / "known_hosts"
    hosts.write_text(f"{known}\n")
    with Pool(Settings("pi", port=port, known_hosts=hosts)) as pool:
        found = pool.remote(["raspberrypi.local", "192.168.1.10"]).destinations
    assert found[0] == first and len(found) == 2
