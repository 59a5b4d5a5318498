"""resolv.conf(5), read as glibc does: a keyword opens the line, the last `search` or `domain` wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    """Addresses in order, the scope of link-local ones kept (`fe80::1%eth0`). Where a file names none,
    glibc asks 127.0.0.1; whether to do so too is the reader's choice. glibc asks the first three only."""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def ndots(self) -> int:
        """Dots from which on a name is tried as it is before the search list is."""
        for option in reversed(self.options):
            if option.startswith("ndots:") and option[6:].isdecimal():
                return min(int(option[6:]), 15)
        return 1


def parse(text: str) -> ResolvConf:
    """Read the text of a resolv.conf. Never fails: what cannot be understood is skipped."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if line[:1].isspace() or not values:
            continue
        match keyword:
            case "nameserver" if _is_address(values[0]):
                nameservers.append(values[0])
            case "domain":
                search = (values[0],)
            case "search":
                search = tuple(values)
            case "options":
                options += values
    return ResolvConf(tuple(nameservers), search, tuple(options))


def render(nameservers: Iterable[str], keep: ResolvConf | None = None) -> str:
    """A resolv.conf that asks `nameservers`, with the search list and options of `keep`.

    Behind fake addresses leave `keep` out: there every name exists, so with a search list
    `www.example.com.corp.example` would be found before, or instead of, `www.example.com`."""
    lines = [f"nameserver {address}" for address in nameservers]
    if keep is not None and keep.search:
        lines.append("search " + " ".join(keep.search))
    if keep is not None and keep.options:
        lines.append("options " + " ".join(keep.options))
    return "".join(line + "\n" for line in lines)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
