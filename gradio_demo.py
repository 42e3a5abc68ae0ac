"""A web page on this machine: `python gradio_demo.py [--model FOLDER] [--port 7860]`.

Needs the extra `web` (`pip install 'refhcm[web]'`). The same as `refhcm web`.
"""

import sys

try:
    from refhcm.cli import main
except ModuleNotFoundError as error:
    if error.name != "refhcm":
        raise
    raise SystemExit("refhcm is not installed for this Python: run `make demo` once, or `pip install -e .`") from None

if __name__ == "__main__":
    sys.exit(main(["web", *sys.argv[1:]]))
