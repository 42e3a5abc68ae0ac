"""Answer questions about pictures: `python predict.py photo.jpg --text "the man in red" --out out`.

The same as `refhcm predict`; `python predict.py --help` lists the options.
"""

import sys

try:
    from refhcm.cli import main
except ModuleNotFoundError as error:
    if error.name != "refhcm":
        raise
    raise SystemExit("refhcm is not installed for this Python: run `make demo` once, or `pip install -e .`") from None

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
