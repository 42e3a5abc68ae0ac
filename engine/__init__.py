"""The only door to fairseq: importing this package makes the released fairseq usable, or says what is missing."""

from .fairseq_shim import load_fairseq

load_fairseq()  # before any `from fairseq import ...` of the modules here

from .sharding import install  # noqa: E402

install()
