"""Answer questions about pictures: `python predict.py photo.jpg --text "the man in red" --out out`.

The same as `refhcm predict`; `python predict.py --help` lists the options.
"""

import sys

from launcher import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
