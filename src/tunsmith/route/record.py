"""Changes as JSON objects, for the journal: what is read back is equal to what was written.

{"change": "AddRule", "rule": {"version": 4, "priority": 32763, ...}}: fields at their default are left out, and
addresses and prefixes are text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, get_args, get_type_hints

from tunsmith.route.change import Change
from tunsmith.route.facts import Address, Interface, Prefix, Route, Rule

_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(Change)}
_READERS: Mapping[Any, Callable[[str], Any]] = {
    Address: ip_address,
    Address | None: ip_address,
    Interface: ip_interface,
    Prefix: ip_network,
    Prefix | None: ip_network,
}


def write(change: Change) -> dict[str, Any]:
    """`change` as values that json.dumps takes."""
    return {"change": type(change).__name__, **_plain(change)}


def read(record: Mapping[str, Any]) -> Change:
    """The change that was written. Raises ValueError where `record` is none."""
    try:
        values = dict(record)
        kind = _KINDS[values.pop("change")]
        change: Change = _build(kind, values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no change of ours: {error!r}") from None
    return change


def _plain(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in fields(value):
        item = getattr(value, each.name)
        if each.default is not MISSING and item == each.default:
            continue
        if is_dataclass(item):
            found[each.name] = _plain(item)
        elif isinstance(item, bool | int | str):
            found[each.name] = item
        elif isinstance(item, tuple):
            found[each.name] = list(item)
        else:
            found[each.name] = str(item)
    return found


def _build(kind: type[Any], values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], item) for name, item in values.items()})


def _value(hint: Any, item: Any) -> Any:
    if hint in (Route, Rule):
        return _build(hint, item)
    if hint in _READERS:
        return _READERS[hint](item)
    if isinstance(item, list):
        return tuple(item)
    if not isinstance(item, (int, str)) or not isinstance(item, get_args(hint) or hint):
        raise ValueError(f"{item!r} is not of {hint}")
    return item
