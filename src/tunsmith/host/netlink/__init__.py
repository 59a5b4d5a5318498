"""rtnetlink(7) by hand: what a machine's network is made of, asked for and changed (docs/adr/0014).

`channel` is the socket: requests with an acknowledgement, dumps, errors with the kernel's own words. `links`,
`addresses`, `routes` and `rules` are the bytes of one noun each, to and from the values of route/facts.py.
"""
