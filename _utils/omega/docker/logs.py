"""Which options each built-in log driver of Docker takes. `dockerd --validate` does not look at them; a start does."""

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


def unknown(driver, options):
    """Return the options that a log driver does not take, sorted; nothing is known of a plugin's, and `none` takes all.

    :param driver: the driver's name
    :param options: names of options
    """
    if driver not in OPTIONS:
        return []
    return sorted(set(options) - OPTIONS[driver] - _COMMON - _CACHE)
