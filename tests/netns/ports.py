"""Who listens where on S; see servers.py for the real programs and peers.py for the odd ones."""

from __future__ import annotations

# Real programs.
SSH = 2222
DNS = 53
HTTP = 80
IPERF = 5201
GIT = 9418

# Odd servers, TCP; ECHO and WHO answer on UDP as well.
ECHO = 7
DIGEST = 7001
"""Reads to the end, then answers with count and sha256."""
SOURCE = 7002
"""Reads a number and sends as many bytes of `pattern`, then FIN."""
FIN_FIRST = 7003
"""Says hello and FIN, then reads to the end."""
RESET = 7004
"""Reads a line, answers half a line, then RST."""
DEAF = 7005
"""Accepts and never reads."""
FLOOD = 7006
"""Sends for ever."""
WHO = 7007
"""Says from where it was asked."""
WHO_ELSE = 7008
"""The same, on another port."""
STRANGER = 7009
"""UDP: answers from a port that was not asked."""
BURST = 7010
"""UDP: asked for "COUNT SIZE", sends that many datagrams by UDP_SEGMENT."""
LATE = 7011
"""Begins to read when the test says so, then as DIGEST."""
SLOW = 7013
"""Reads a megabyte a second, in gulps, and tells the test what."""
CHAOS = 7012
"""Does what the first line says; see chaos.py."""

# Proxies.
SOCKS = 1080
SOCKS_PASSWORD = 1081
SOCKS_WITHOUT_UDP = 1082
CONNECT = 3128
CONNECT_PASSWORD = 3129
HANGING = 1090
RESETTING = 1091
TRICKLING = 1092
MORTAL = 1085
"""For a proxy that a test starts and kills itself."""
CREDENTIALS = ("user", "pass word")

CLOSED = 9998
"""Nobody listens there."""
