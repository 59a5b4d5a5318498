"""Upstreams: how flows leave this machine. Marks and interface pinning live only here."""
