"""What is taken for a password in what states return."""

import pytest

from omega.core.mask import HIDDEN, masked

PASSWORD = "hunter2-not-shown"


@pytest.mark.parametrize(
    "value",
    [
        {"proxies": {"https-proxy": f"http://me:{PASSWORD}@proxy:3128"}},
        {"log-opts": {"splunk-token": PASSWORD, "loki-url": f"https://1:{PASSWORD}@loki/push"}},
        {"registry-mirrors": [f"https://me:{PASSWORD}@mirror.lan"]},
        [f"--dsn=postgres://me:{PASSWORD}@db/x"],
        [f"--dsn=postgres://me:{PASSWORD}@x@db/x"],
        ["--db-password", PASSWORD],
        ["-u", f"me:{PASSWORD}"],
        ["--user", f"me:{PASSWORD}"],
        [f"--api-key={PASSWORD}"],
        f"username=me,password={PASSWORD}",
    ],
)
def test_a_password_is_hidden(value):
    shown = str(masked(value))
    assert PASSWORD not in shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    "value",
    [
        ["--user", "1000"],
        ["--verbose", "yes"],
        "https://mirror.lan:5000/a@b",
        "nginx:1@sha256:00",
        {"log-opts": {"max-size": "10m"}, "dns": ["1.1.1.1"], "debug": True, "mtu": 1400, "x": None},
    ],
)
def test_what_is_no_password_stays(value):
    assert masked(value) == value
