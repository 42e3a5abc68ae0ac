"""Box, pose, body parts and caption at once: `python demo_s1.py photo.jpg --text "the man in red" --out out`.

Asks "which region does the text ... describe? Provide the parsing map and the keypoints.", then for a caption of that
box, and writes the annotated picture, the part map and JSON. Without a picture it goes through the bundled samples. The
same as `refhcm demo`.
"""

import sys

from launcher import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
