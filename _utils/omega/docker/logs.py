"""Which options each built-in log driver of Docker takes. `dockerd --validate` does not look at them; a start does."""

import re

# moby daemon/logger/*/: every option that a release from 20.10 to 29.7 takes. A release that does not know one yet, or
# no longer, refuses it as it starts, and gets its former settings back.
_COMMON = frozenset({"mode", "max-buffer-size"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_ABOUT = frozenset({"env", "env-regex", "labels", "labels-regex", "tag"})
_FILE = frozenset({"max-size", "max-file", "compress"})


def _named(prefix, names):
    return frozenset(f"{prefix}-{name}" for name in names.split())


OPTIONS = {
    "json-file": _ABOUT | _FILE,
    "local": _FILE,
    "journald": _ABOUT,
    "syslog": _ABOUT | _named("syslog", "address facility format tls-ca-cert tls-cert tls-key tls-skip-verify"),
    "gelf": _ABOUT | _named("gelf", "address compression-level compression-type tcp-max-reconnect tcp-reconnect-delay"),
    "fluentd": _ABOUT
    | _named(
        "fluentd",
        "address async async-connect async-reconnect-interval buffer-limit max-retries read-timeout request-ack "
        "retry-wait sub-second-precision write-timeout",
    ),
    "awslogs": frozenset({"tag"})
    | _named(
        "awslogs",
        "create-group create-stream credentials-endpoint datetime-format endpoint force-flush-interval-seconds format "
        "group max-buffered-events multiline-pattern region stream",
    ),
    "splunk": _ABOUT
    | _named(
        "splunk",
        "caname capath format gzip gzip-level index index-acknowledgment insecureskipverify source sourcetype token "
        "url verify-connection",
    ),
    "gcplogs": (_ABOUT - {"tag"}) | _named("gcp", "log-cmd meta-id meta-name meta-zone project"),
    "logentries": _ABOUT | {"logentries-token", "line-only"},
}
DEFAULT = "json-file"
# As Go's strconv.ParseBool reads them.
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def unknown(driver, options):
    """Return the options that a log driver does not take, sorted; nothing is known of a plugin's, and `none` takes all.

    :param driver: the driver's name
    :param options: names of options
    """
    if driver not in OPTIONS:
        return []
    return sorted(set(options) - OPTIONS[driver] - _COMMON - _CACHE)


def invalid(driver, options):
    """Return a clause on each value with which the engine does not start, or starts no container.

    An engine with `max-size: 10x` starts; every container that is made then fails, Consul's too (moby
    daemon/logger/factory.go, jsonfilelog/jsonfilelog.go, local/local.go).

    :param driver: the driver's name
    :param options: ``{name: text}``
    """
    size, mode = re.compile(r"\d+(\.\d+)? ?([kmgtp]?i?b?)?", re.IGNORECASE), options.get("mode", "")
    text = {key: str(value) for key, value in options.items()}
    if mode not in ("", "blocking", "non-blocking"):
        yield f"mode {mode}: write blocking or non-blocking"
    elif "max-buffer-size" in text and mode != "non-blocking":
        yield "max-buffer-size: counts only with `mode: non-blocking`"
    elif not size.fullmatch(text.get("max-buffer-size", "1m")):
        yield f"max-buffer-size {text['max-buffer-size']}: write a size such as 4m"
    if driver not in ("json-file", "local"):
        return
    limit = text.get("max-size", "1m")
    if not size.fullmatch(limit) or not float(re.findall(r"[\d.]+", limit)[0]):
        yield f"max-size {limit}: write a size such as 10m, or leave it out: no limit"
    files = text.get("max-file", "1")
    if not re.fullmatch(r"\+?0*[1-9]\d*", files):
        yield f"max-file {files}: write a number from 1 on"
    compress = text.get("compress", "")
    if compress and compress not in (*TRUE, *FALSE):
        yield f"compress {compress}: write true or false"
    elif driver == "json-file" and compress in TRUE and ("max-size" not in text or files == "1"):
        yield "compress: takes a max-size and a max-file of 2 or more"
