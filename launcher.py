"""What the scripts of this folder begin with: the installed package, or one sentence that says how to install it."""

try:
    from refhcm.cli import main
    from refhcm.errors import RefHCMError
except ModuleNotFoundError as error:
    if error.name != "refhcm":
        raise
    raise SystemExit("refhcm is not installed for this Python: run `make demo` once, or `pip install -e .`") from None

__all__ = ["RefHCMError", "main"]
