"""Why a row of a source is left out."""

from __future__ import annotations

from ...errors import RefHCMError


class Skip(RefHCMError):
    """Something in the source that cannot become a row. The message is the reason alone, the same for every such row,
    so that rows can be counted by it; which row it is, is known to whoever reads the source."""
