"""Where packets come from and go to; every device satisfies one contract (base.py)."""
