"""The simplest text tokenizer, for tests of what is built on one."""


class Letters:
    """One text piece per byte."""

    size = 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")
