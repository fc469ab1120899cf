"""State swap, and the bootstrap's step of the same name."""

import pytest

OWN_MEANS = ("/etc/rpi/swap.conf", "/etc/default/armbian-zram-config")


@pytest.fixture
def active(host):
    """Names of the swap that is in use."""
    if host.run("systemd-detect-virt --container --quiet").rc == 0:
        pytest.skip("swap belongs to the host of a container")
    return [line.split()[0] for line in host.file("/proc/swaps").content_string.splitlines()[1:]]


@pytest.mark.cure("rpiomega bootstrap {node}; what is in use is let go with a reboot")
def test_no_swap_is_on_the_card(active, site):
    if site["system"]["swap"] == "keep":
        pytest.skip("the site leaves it as it is")
    wrong = [name for name in active if "zram" not in name]
    assert wrong == [], f"in use: {', '.join(wrong)}"


def test_compressed_memory_is_there_only_if_the_site_wants_it(active, site):
    wanted = site["system"]["swap"]
    if wanted == "keep":
        pytest.skip("the site leaves it as it is")
    found = [name for name in active if "zram" in name]
    assert bool(found) == (wanted == "zram"), f"in use: {', '.join(found) or 'none'}"


def test_compressed_memory_is_set_up_for_the_next_boot_only_if_the_site_wants_it(host, site):
    if any(host.file(path).exists for path in OWN_MEANS):
        pytest.skip("the board brings its own means, which the bootstrap sets")
    config = host.file(site["swap"]["config"])
    ours = config.exists and "Written by rpiomega" in config.content_string
    assert ours == (site["system"]["swap"] == "zram"), f"{config.path} is {'still' if ours else 'not'} the formula's"
