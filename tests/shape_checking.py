"""What the tests put around functions and dataclasses of ours: beartype, to which an int is also a float (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
