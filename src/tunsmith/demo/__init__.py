"""The main job on an embedded network: servers and clients of our own, the real `tunsmith run` between them.

show.py       the conductor: runs the scenes in order, keeps the facts, ends everything
internet.py   the private internet, on addresses of a network namespace of its own
scenes.py     who runs what, through which upstream, and what must come out
client.py     one program through `tunsmith run --json`, and the flows that it reported
screen.py     the facts, as a person sees them
"""
