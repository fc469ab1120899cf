"""Which release of Consul may take over from which: HashiCorp's rules, and what an image's name says."""

import pytest

from omega.consul import versions


def release(text):
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        ("1.22.7", "1.22.7"),
        ("1.22.7", "1.22.5"),  # back to another patch of the same line
        ("1.12.0", "1.14.11"),  # HashiCorp's own example: 1.12, 1.14, 1.15
        ("1.14.11", "1.15.0"),
        ("1.8.7", "1.10.12"),
        ("1.9.17", "1.10.12"),
        ("1.10.12", "1.12.9"),
        ("1.3.1", "1.6.10"),  # a route of its own, longer than two lines
        ("1.6.10", "1.8.19"),
        ("1.20.6", "1.22.7"),
        ("1.21.5", "1.22.7"),
        ("1.21.7", "2.0.3"),
        ("1.22.7", "2.0.0"),
        ("2.0.0", "2.2.1"),
        ("1.22", "1.22.7"),
    ],
)
def test_what_hashicorp_supports_is_allowed(running, wanted):
    assert versions.refusal(release(running), release(wanted)) == ""


@pytest.mark.parametrize(
    ("running", "wanted", "next_step"),
    [
        ("1.12.0", "1.15.0", "1.14"),
        ("1.8.7", "1.11.0", "1.10"),
        ("1.8.7", "1.22.7", "1.10"),
        ("1.9.17", "1.11.0", "1.10"),
        ("1.10.0", "1.13.9", "1.12"),
        ("1.3.1", "1.12.0", "1.6"),
        ("1.6.10", "1.10.12", "1.8"),
        ("1.18.2", "2.0.0", "1.20"),
        ("1.20.6", "2.0.0", "1.21"),
        ("1.22.7", "2.1.0", "2.0"),
        ("2.0.0", "2.3.0", "2.2"),
    ],
)
def test_what_goes_too_far_is_refused_with_the_next_step_on_the_way(running, wanted, next_step):
    said = versions.refusal(release(running), release(wanted))
    assert f"Consul {running} must not become {wanted} in one step: name a release of {next_step} " in said
    assert versions.refusal(release(running), release(next_step)) == ""


@pytest.mark.parametrize(("running", "wanted"), [("1.22.7", "1.21.5"), ("2.0.0", "1.22.7"), ("1.10.0", "1.8.7")])
def test_an_older_line_is_refused(running, wanted):
    assert f"Consul {wanted} is older than {running}" in versions.refusal(release(running), release(wanted))


@pytest.mark.parametrize(("running", "wanted"), [("0.7.5", "1.2.4"), ("2.0.0", "3.0.0")])
def test_a_route_that_nobody_has_described_is_refused(running, wanted):
    assert "is known" in versions.refusal(release(running), release(wanted))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("hashicorp/consul:1.22.7", (1, 22, 7)),
        ("hashicorp/consul:1.22", (1, 22)),
        ("10.0.0.1:5000/consul:v1.22.0", (1, 22, 0)),
        ("hashicorp/consul:1.22.7@sha256:1.2", (1, 22, 7)),
        ("hashicorp/consul-enterprise:1.22.7-ent", (1, 22, 7)),
        ("10.1:5000/consul", None),
        ("hashicorp/consul", None),
        ("hashicorp/consul:latest", None),
        ("hashicorp/consul:1", None),
        ("hashicorp/consul@sha256:0123", None),
        ("home/consul:2026.11.28", None),
    ],
)
def test_a_tag_says_its_release_or_nothing(image, found):
    assert versions.of_name(image) == found
