"""Print every instruction once, `{}` for the words or the region: `python -m refhcm.tasks`."""

from . import prompts

if __name__ == "__main__":
    print("\n".join(prompts()))
