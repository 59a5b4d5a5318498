"""Pure verdicts: what happens to a flow, and which rule says so."""
