"""Names for people: which name an address was last looked up by. For logs and captures, never for routing:
many names share an address, and an application may have its own from elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

ADDRESSES = 4096


class SeenNames:
    """The names of the addresses that answers gave, the latest `limit` of them."""

    __slots__ = ("_limit", "_names")

    def __init__(self, limit: int = ADDRESSES) -> None:
        self._limit = limit
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def learn(self, name: str, addresses: Iterable[bytes]) -> None:
        """An answer about `name` gave these packed addresses."""
        names = self._names
        for address in addresses:
            names[address] = name
            names.move_to_end(address)
        while len(names) > self._limit:
            names.popitem(last=False)

    def name_of(self, packed: bytes) -> str | None:
        """The name this address was last looked up by."""
        return self._names.get(packed)
