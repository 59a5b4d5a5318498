"""Measures tunsmith beside its peers: same machine, same load generators, same minute.

`namespaces` makes two machines out of one, `contenders` puts each peer between them, `workloads` sends
real programs through it, `probes` asks what only tunsmith is asked, `report` turns runs into tables.
"""
