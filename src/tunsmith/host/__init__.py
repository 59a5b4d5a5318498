"""Everything that changes or reads this machine: namespaces, links, resolver files."""
