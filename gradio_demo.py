"""A web page on this machine: `python gradio_demo.py [--model FOLDER] [--port 7860]`.

Needs the extra `web` (`pip install -e '.[web]'`). The same as `refhcm web`.
"""

import sys

from launcher import main

if __name__ == "__main__":
    sys.exit(main(["web", *sys.argv[1:]]))
