"""The timers of one connection: a list of due times, one slot a timer.

A timer is armed by writing its slot and disarmed by writing NEVER. The connection's one entry in the
stack's deadline heap may be early, never late (see stack/deadlines.py), so re-arming for later, which
happens with every segment, costs one list store.
"""

from __future__ import annotations

from typing import Final

NEVER: Final = float("inf")

RETRANSMIT: Final = 0
"""RTO, RFC 6298; also SYN and SYN-ACK. Without trouble the shorter probe timeout of TLP, which then puts the RTO
here (recovery.py)."""
PERSIST: Final = 1
"""Zero-window probe, RFC 9293 §3.8.6.1."""
DELAYED_ACK: Final = 2
"""RFC 9293 §3.8.6.3."""
LINGER: Final = 3
"""The end of FIN-WAIT-2 of a connection its owner closed; with options (policy.py) whatever they limit next."""
RACK: Final = 4
"""RFC 8985: RACK's reordering timer or TLP's probe timeout, of which only one runs at a time."""
COUNT: Final = 5
