"""What single values of the site file look like: each type knows its pattern and how to say what is allowed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from omega.core import mask


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, text is text (3008 is a number, "3008" a release)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class Shape:
    """A text that fully matches `pattern`: `what` it is ("an IPv4 address"), and how to write it.

    `hidden`: what does not match may hold a secret, so no error shows it; `max_bytes`: its length as UTF-8, 0: any;
    `ipv6`: a text with a colon is an IPv6 address, which no pattern describes well.
    """

    pattern: str
    what: str
    allowed: str
    hidden: bool = False
    max_bytes: int = 0
    ipv6: bool = False

    def fits(self, value: str) -> bool:
        """Return whether a text is of this shape; `omega.site.check` decides the same on the master."""
        if not re.fullmatch(self.pattern, value):
            return False
        if self.max_bytes and len(value.encode("utf-8", "surrogatepass")) > self.max_bytes:
            return False
        try:
            return not (self.ipv6 and ":" in value and not ipaddress.IPv6Address(value.partition("%")[0]))
        except ValueError:
            return False

    def __call__(self, value: Any) -> Any:
        if not all(map(self.fits, mask.texts_in(value))):
            hidden = self.hidden or mask.may_have_login(str(value))
            shown = "what is written here" if hidden else f'"{value[:40]}"'
            raise ValueError(f"{shown} is not {self.what}|{self.allowed}")
        return value


def _text(pattern: str, what: str, allowed: str, hidden: bool = False, max_bytes: int = 0, ipv6: bool = False) -> Any:
    # \d is any script's digit for Python.
    shape = Shape(pattern.replace(r"\d", "[0-9]"), what, allowed, hidden, max_bytes, ipv6)
    return Annotated[str, AfterValidator(shape)]


_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = "1 to 63 small letters, digits and hyphens, no hyphen at an end"
_OPENPGP = r"[\s\S]*-----BEGIN PGP PUBLIC KEY BLOCK-----[\s\S]*"
_OPENSSH = r"[^\s#]+\s.*\b(ssh|sk-ssh|ecdsa)-\S+\s+AAAA[\s\S]*"

Address = _text(rf"({_BYTE}\.){{3}}{_BYTE}", "an IPv4 address", "write four numbers from 0 to 255, as 192.168.1.10")
Name = _text(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a host name", _LABEL)
# A name of digits and dots alone is an address that is wrong: ssh would take 192.168.57 for 192.168.0.57.
_HOST = rf"({_BYTE}\.){{3}}{_BYTE}|(?![0-9.]+$)[A-Za-z0-9]([A-Za-z0-9._-]{{0,251}}[A-Za-z0-9])?"
_IPV6 = r"(?=[^%]*:[^%]*:)[0-9A-Fa-f:.]+"
Host = _text(
    rf"|{_HOST}|{_IPV6}(%[A-Za-z0-9._-]+)?",
    "a host name or address",
    "what you would give to ssh, without user and port; a port goes into users.port or your ssh_config",
    ipv6=True,
)
Interface = _text(r"[A-Za-z0-9._-]{0,15}", "an interface", "write eth0 or wlan0")
# IEEE 802.11: an SSID is 0 to 32 octets.
Ssid = _text(r"[^\0\r\n]{1,32}", "a network's name", "1 to 32 bytes of UTF-8: ä is two, an emoji four", max_bytes=32)
Country = _text(r"([A-Z]{2})?", "a country code", "two capitals, as GB or DE")
Login = _text(r"[a-z_][a-z0-9_-]{0,31}", "a login name", "small letters, digits, _ and -, as in /etc/passwd")
Timezone = _text(r"|[A-Za-z_]+(/[A-Za-z0-9_+-]+)*", "a time zone", "write Europe/Berlin")
Locale = _text(r"|C(\.UTF-8)?|[a-z]{2,3}_[A-Z]{2}(\.[\w-]+)?(@\w+)?", "a locale", "write en_GB.UTF-8")
Package = _text(r"[a-z0-9][a-z0-9+.-]+", "a Debian package name", "small letters, digits, + . and -")
PackagePattern = _text(
    r"[a-z0-9][a-z0-9+.-]+\*?", "a Debian package", "write its name, or its beginning and a star, as linux-image-*"
)
Release = _text(r"|\d+(\.\d+)*", "a release", "write numbers and dots, as 5.0.2")
SaltVersion = _text(r"\d{4}(\.\d+)?", "a Salt release", 'write "3008" for its newest, or "3008.3" for one')
DockerVersion = _text(
    r"|(\d+:)?\d+(\.\d+)*(-[A-Za-z0-9.+~-]+)?", "a Docker release", "write 28.5.1, or the whole version as apt shows it"
)
TimeServer = _text(rf"{_HOST}|{_IPV6}", "a host name or address", "write one server a line, without a port", ipv6=True)
TimeOfDay = _text(r"([01]\d|2[0-3]):[0-5]\d", "a time of day", 'write it in quotes, as "02:30"')
Size = _text(r"|[1-9]\d*[KMG]", "a size", "write 64M or 1G")
Image = _text(
    r"(?!.*//)[a-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?",
    "an image reference",
    "write repository:tag",
    hidden=True,
)
Branch = _text(r"[A-Za-z0-9][\w./-]*", "a branch name", "write it as git does")
# Every node reads the pillar. Over ssh a user alone is no secret; over http it may be a token. After the colon of an
# address comes its port; in git's short form of ssh (git-fetch(1), "GIT URLS") there is no user with a colon.
Remote = _text(
    r"(?!-)(?!.*(?i:https?)://[^/]*@)(?!.*://[^/@\[\]]*:(?!\d*(?:/|$)))(?!.*://[^/@]*%3[aA][^/@]*@)"
    r"(?![^/@:]+:[^/@:]+@[^/@:]+[:/].*[^/]).*",
    "a git remote without a login or password",
    "give root of the master a deploy key or a credential helper: docs/updates.md",
    hidden=True,
)
Signer = _text(
    f"{_OPENPGP}|{_OPENSSH}",
    "a public key of a signer",
    "write `NAME ssh-ed25519 AAAA...` in one line, or an armored OpenPGP public key",
)
# Every node reads the pillar, and sources of apt are files that all users read.
_AUTHORITY = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?"
Url = _text(
    rf"|https?://{_AUTHORITY}(/\S*)?",
    "a web address without a login or password",
    "write http://HOST:PORT/ or https://HOST/; logins of apt belong into /etc/apt/auth.conf.d of each node",
    hidden=True,
)
Folder = _text(r"|(/[A-Za-z0-9._@+-]+)+", "a folder", "write its whole path, without a slash at its end")
Fingerprint = _text(r"[0-9A-Fa-f]{40}", "a key's fingerprint", "write its 40 hexadecimal digits without spaces")
Registry = _text(
    r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?|[0-9.]+/\d{1,2}",
    "a registry",
    "write HOST:PORT, or a network as 192.168.1.0/24",
    hidden=True,
)
# What Docker appends to is the path: a mirror may have none (docs.docker.com/docker-hub/image-library/mirror).
Mirror = _text(
    rf"https?://{_AUTHORITY}/?",
    "a registry mirror",
    "write http://HOST:PORT or https://HOST, without login and path",
    hidden=True,
)
# Every node reads the pillar, and whoever may use Docker reads labels and variables of services.
_NO_PASSWORD = r"(?![\s\S]*://[^\s/@:]*:[^\s/@]*@)[\s\S]*"
NoPassword = _text(
    _NO_PASSWORD, "a text without a password in an address", "use a secret of Docker: docs/swarm.md", hidden=True
)
DaemonValue = Annotated[
    Any,
    AfterValidator(
        Shape(
            _NO_PASSWORD,
            "a value without a password in an address",
            "write that key into /etc/docker/daemon.json of each node, which is kept",
            hidden=True,
        )
    ),
]
_NO_FOLDER = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
FileName = _text(_NO_FOLDER, "a bare file name", "letters, digits, . _ and -, no folder")
# Whoever writes the account's key here instead finds it in no message, nor in the master's job cache.
AccountFile = _text(
    _NO_FOLDER,
    "the name of a file among the B2 secrets of the master",
    "letters, digits, . _ and -, no folder; an account's key stays out of the site file: docs/b2.md",
    hidden=True,
)
# backblaze.com/docs/cloud-storage-buckets and -application-keys
BucketName = _text(r"(?!b2-)[A-Za-z0-9-]{6,63}", "a bucket name", "6 to 63 letters, digits and hyphens")
LabelName = _text(
    r"(?!rpiomega\.)[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?",
    "a label's name",
    "letters, digits, . _ / and -; names that begin with rpiomega. are the cluster's own",
)
KeyName = _text(r"[A-Za-z0-9-]{1,100}", "a key name", "1 to 100 letters, digits and hyphens")
Role = Literal["master", "manager", "worker"]
Duration = _text(r"(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?", "a duration", 'write "90d", "2160h", "1h30m" or "5s"')
SaltFile = _text(
    r"(salt://)?[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", "a file of the master", "a path below its files folder"
)
# docs.docker.com/reference/cli/docker/stack/deploy: a name that is a DNS label, too, reaches its services by it.
StackName = _text(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", "a stack's name", "small letters, digits, - and _")
Subnet = _text(rf"({_BYTE}\.){{3}}{_BYTE}/([89]|1\d|2\d)", "a subnet", "write 10.20.0.0/16")
# B2's rules (BucketName), and S3's: restic refuses a name with a hyphen at an end.
BackupBucket = _text(
    r"|(?!b2-)[A-Za-z0-9][A-Za-z0-9-]{4,61}[A-Za-z0-9]",
    "a bucket name",
    "6 to 63 letters, digits and hyphens, none at an end, not b2- at the beginning",
)
VolumeName = _text(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "a volume's name", "write it as `docker volume ls` does")
BackupMode = _text(
    r"hot|pause|dump|no",
    "how a volume can be saved",
    'write hot, pause, dump or "no"; stop (the service at 0 replicas meanwhile) is not there yet: take pause',
)
# Parts . and .. would be another folder's name; restic expands no wildcards in what it saves.
SavedPath = _text(
    r"(/(?!\.{1,2}(/|$))[^/\0\r\n*?\[\]]+)+",
    "a whole path",
    "begin with a slash, end without one; wildcards go into backup.exclude",
)
Pattern = _text(
    r"(?=\S)[^\0\r\n]*\S", "a pattern of restic", "one line without a space at an end, as *.iso or /home/*/.cache"
)
Sha256 = _text(r"[0-9a-f]{64}", "a SHA-256", "write its 64 hexadecimal digits in small letters")
ResticVersion = _text(
    r"(0\.(1[7-9]|[2-9]\d)|[1-9]\d*\.\d+)\.\d+", "a release of restic from 0.17.0 on", 'write "0.19.1"'
)
