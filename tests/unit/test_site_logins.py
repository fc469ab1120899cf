"""Addresses with a login in the site file: refused by the workstation and by the master, and shown by neither."""

import json

import pytest
from test_site_readings import verdicts

SECRET = "hush-hush"
URL_KEYS = [
    "salt: {repository: {uri: %s}}",
    "salt: {repository: {key_url: %s}}",
    "docker: {repository: {uri: %s}}",
    "docker: {repository: {key_url: %s}}",
    "docker: {mirrors: [%s]}",
    "docker: {mirrors: ['http://mirror.lan:5000', %s]}",
    "docker: {insecure_registries: [%s]}",
    "docker: {daemon: {registry-mirrors: [%s]}}",
    "docker: {daemon: {proxies: {http-proxy: %s}}}",
    "consul: {image: %s}",
    "b2: {endpoint: %s}",
    "formula: {remote: %s}",
    "swarm: {spec: {external_cas: [{url: %s}]}}",
    "swarm: {spec: {external_cas: [{url: 'https://ca.lan/', options: {proxy: %s}}]}}",
    "swarm: {spec: {labels: {proxy: %s}}}",
    "swarm: {stacks: {web: {compose: web.yml, env: {HTTP_PROXY: %s}}}}",
    "swarm: {stacks: {web: {compose: %s}}}",
    "sources: {apt_proxy: %s}",
    "sources: {pip_index: %s}",
    "cache: {images: true, upstream: %s}",
    "cache: {images: true, image: %s}",
    "time: {servers: [%s]}",
    # Where something else is wanted, or another type.
    "docker: {mirrors: %s}",
    "docker: {data_root: %s}",
    "docker: {source: %s}",
    "docker: {allow_downgrade: %s}",
    "docker: {version: [%s]}",
    "sources: %s",
    "sources: {apt_proxy: [%s]}",
    "packages: {extra: [{a: %s}]}",
]


def quoted(url):
    return json.dumps(url)


@pytest.mark.parametrize("key", URL_KEYS)
@pytest.mark.parametrize("host", ["h.lan", "a-host-with-a-name-of-its-own.example.com"])
def test_no_key_takes_a_password_and_no_message_shows_it(tmp_path, key, host):
    for said in verdicts(tmp_path, f"  {key % quoted(f'https://me:{SECRET}@{host}/x')}\n"):
        assert said and SECRET not in said and "hush" not in said


LOGINS = [
    f"http://{SECRET}@h/",
    f"http://me%3A{SECRET}%40h/",
    f"HTTP://me:{SECRET}@h/",
    f"http://me:{SECRET}/x@h/",
    f"http://me:x?{SECRET}@h/",
    f"http://me:x#{SECRET}@h/",
    f"http://me:{SECRET}＠h/",
    f"http://h\\@{SECRET}/",
    f"//me:{SECRET}@h/",
    f"me:{SECRET}@h:3142",
    f" http://me:{SECRET}@h/",
]


@pytest.mark.parametrize("url", LOGINS)
@pytest.mark.parametrize(
    "key", ["sources: {apt_proxy: %s}", "b2: {endpoint: %s}", "docker: {mirrors: [%s]}", "cache: {upstream: %s}"]
)
def test_forms_of_a_login(tmp_path, key, url):
    for said in verdicts(tmp_path, f"  {key % quoted(url)}\n"):
        assert said and SECRET not in said


@pytest.mark.parametrize(
    "remote",
    [
        f"ssh://git%3A{SECRET}@h/x.git",
        f"git:{SECRET}@github.com:me/x.git",
        f"git:{SECRET}@github.com/me/x.git",
        f"https://me:{SECRET}/1@h/x.git",
        f"https:{SECRET}@h/x.git",
        f"--upload-pack={SECRET}",
    ],
)
def test_remotes_with_a_login(tmp_path, remote):
    for said in verdicts(tmp_path, f"  formula: {{remote: {quoted(remote)}}}\n"):
        assert "without a login or password" in said and SECRET not in said


@pytest.mark.parametrize(
    "remote",
    [
        "git@github.com:me/x.git",
        "github.com:me/x.git",
        "git@[2001:db8::1]:x.git",
        "ssh://git@h/x.git",
        "ssh://git@h:2222/x.git",
        "ssh://git@[::1]:22/x.git",
        "ssh://git@[fe80::1]/x.git",
        "git@h:a@b/x.git",
        "h:/srv/a@b:c",
        "https://h:8443/a@b/x.git",
        "https://h/~me/x.git",
        "https://h/a:b/x.git",
        "https://h:8443",
        "git://h/x.git",
        "file:///srv/a:b@c.git",
        "/srv/a:b@c.git",
        "",
    ],
)
def test_remotes_without_one(tmp_path, remote):
    assert verdicts(tmp_path, f"  formula: {{remote: {quoted(remote)}}}\n") == ("", "")


@pytest.mark.parametrize(
    "url", ["http://h", "http://h:3142", "https://h.lan/a@b/", "http://[::1]:3142/", "http://1.2.3.4:80/x%20y"]
)
def test_addresses_without_one(tmp_path, url):
    assert verdicts(tmp_path, f"  sources: {{apt_proxy: {quoted(url)}}}\n") == ("", "")


def test_what_stays_allowed_beside_passwords(tmp_path):
    lines = (
        "  docker: {daemon: {proxies: {http-proxy: 'http://proxy:3128', no-proxy: 'a,b@c'}, dns: [], a: 1}}\n"
        "  swarm: {stacks: {web: {compose: web.yml, env: {MAIL: 'smtp://me@h:25', TO: 'a:b@c', U: 'http://h:8/a@b'}}}}\n"
    )
    assert verdicts(tmp_path, lines) == ("", "")


@pytest.mark.parametrize("image", ["a:1", "lan:5000/a/b:1", "a@sha256:" + "0" * 64, "a:1@sha256:" + "0" * 64])
def test_image_references_stay_allowed(tmp_path, image):
    assert verdicts(tmp_path, f"  consul: {{image: '{image}', allow_unsupported_upgrade: true}}\n") == ("", "")


@pytest.mark.parametrize(
    "lines",
    ["  sources:\n    apt_proxy:http://me:{}@h/\n    ca_bundle: x\n", "  b2:\n    endpoint:'https://me:{}@h/': x\n"],
)
def test_text_that_is_not_yaml(tmp_path, lines):
    for said in verdicts(tmp_path, lines.format(SECRET)):
        assert said and SECRET not in said
